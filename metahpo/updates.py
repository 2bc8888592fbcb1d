"""How an optax optimiser is called in a program that is differentiated, mapped and gone on with."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Params, PyTree
from metahpo.safe_sqrt import with_safe_sqrt

_HOLDS_HYPERPARAMETERS = (optax.InjectHyperparamsState, optax.InjectStatefulHyperparamsState)


def started(optimizer: optax.GradientTransformation, params: Params) -> optax.OptState:
    """The optimiser's first state; Python values in it become arrays."""
    return jax.tree.map(jnp.asarray, optimizer.init(params))


def updated(
    optimizer: optax.GradientTransformation,
    grads: Params,
    state: optax.OptState,
    params: Params,
    **extra: Any,
) -> tuple[Params, optax.OptState]:
    """One update of the parameters, and the state after it.

    Every leaf keeps its type, whatever the type of the optimiser's numbers.  Roots have the slope
    0 at 0 (``with_safe_sqrt``).  Numbers that the optimiser keeps in its state
    (``optax.inject_hyperparams``) are those of this optimiser, not of the one that began.

    Args:
        optimizer: of this update.
        grads: like ``params``.
        state: from ``started`` or the last update.
        params: of the model.
        extra: what optimisers with extra arguments may ask for, such as ``value=``.
    """
    checks.alike("the gradient", grads, params)
    accepting = optax.with_extra_args_support(optimizer)
    state = _renewed(optimizer, state, params)

    def update(grads: Params, state: optax.OptState, params: Params) -> tuple[Params, PyTree]:
        updates, new = accepting.update(grads, state, params, **extra)
        checks.alike("an optimiser's update", updates, params)
        return optax.apply_updates(params, updates), new

    params, new = with_safe_sqrt(update)(grads, state, params)
    return params, jax.tree.map(typed_as, new, state)


def typed_as(new: chex.Array, old: chex.Array) -> chex.Array:
    """The new value in the type of the old one."""
    return new if new.dtype == old.dtype else new.astype(old.dtype)


def _renewed(
    optimizer: optax.GradientTransformation, state: optax.OptState, params: Params
) -> optax.OptState:
    """The state with the hyperparameters that the optimiser has now."""

    def holds(node: PyTree) -> bool:
        return isinstance(node, _HOLDS_HYPERPARAMETERS)

    if not any(map(holds, jax.tree.leaves(state, is_leaf=holds))):
        return state

    def renew(old: PyTree, fresh: PyTree) -> PyTree:
        if not holds(old):
            return old
        return old._replace(
            hyperparams=jax.tree.map(typed_as, fresh.hyperparams, old.hyperparams),
            inner_state=jax.tree.map(renew, old.inner_state, fresh.inner_state, is_leaf=holds),
        )

    return jax.tree.map(renew, state, started(optimizer, params), is_leaf=holds)
