"""What every rung of the ladder is: weights to learn, and the optax transformation they make."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metahpo import checks
from metahpo.base import Key, Params, PyTree
from metahpo.floats import is_float, wide
from metahpo.updates import started, typed_as


class UpdateRule(NamedTuple):
    """An optimiser with weights to learn.

    Attributes:
        init: ``(key) -> weights``.
        transform: ``(weights) -> optax.GradientTransformation``; the weights may be traced.  Its
            ``update(grads, state, params, ...)`` needs the parameters and takes optax's extra
            arguments.
    """

    init: Callable[[Key], PyTree]
    transform: Callable[[PyTree], optax.GradientTransformation]


class TensorStates(NamedTuple):
    """The optax state of a rule that works tensor by tensor.

    Attributes:
        count: ``i32[]``, the updates made.
        tensors: a state for each tensor, in the order of the parameters' leaves.
    """

    count: chex.Array
    tensors: tuple[PyTree, ...]


def update_rule(
    name: str,
    init: Callable[[Key], PyTree],
    transform: Callable[[PyTree], optax.GradientTransformation],
) -> UpdateRule:
    """An ``UpdateRule`` that refuses what it cannot work on, and says so in its own name.

    Args:
        name: of the rule, for messages.
        init: ``(key) -> weights``, always of the same structure and shapes.
        transform: ``(weights) -> optax.GradientTransformation``.

    Returns:
        The rule.  Its transformation raises ``ValueError`` for weights of another structure or
        shape, parameters without a leaf or with a leaf that is not a real float, and an ``update``
        without parameters.

    Example:
        >>> rule = update_rule("rate", lambda key: jnp.zeros(()), lambda w: optax.sgd(jnp.exp(w)))
        >>> optimizer = rule.transform(jnp.zeros(()))
        >>> optimizer.init({})
        Traceback (most recent call last):
        ValueError: rate needs parameters, got a pytree without leaves
    """

    @cache
    def like() -> PyTree:
        shapes = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)))
        return jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)

    def checked(weights: PyTree) -> optax.GradientTransformationExtraArgs:
        checks.alike(f"the weights of {name}", weights, like())
        inner = optax.with_extra_args_support(transform(weights))

        def start(params: Params) -> optax.OptState:
            _check_params(name, params)
            return started(inner, params)

        def update(
            grads: Params, state: optax.OptState, params: Params | None = None, **extra: Any
        ) -> tuple[Params, optax.OptState]:
            if params is None:
                raise ValueError(f"{name} sees the parameters: call update(grads, state, params)")
            checks.alike("the gradient", grads, params)
            updates, after = inner.update(grads, state, params, **extra)
            # Weights are often in more digits than what they move, which would change the types.
            updates = jax.tree.map(
                lambda new, old: new.astype(jnp.result_type(old)), updates, params
            )
            return updates, jax.tree.map(typed_as, after, state)

        return optax.GradientTransformationExtraArgs(start, update)

    return UpdateRule(init, checked)


def over_tensors(
    start: Callable[[chex.Array], PyTree],
    step: Callable[
        [chex.Array, list[chex.Array], list[PyTree], list[chex.Array]],
        list[tuple[chex.Array, PyTree]],
    ],
) -> optax.GradientTransformation:
    """A transformation from what happens to the tensors, each with a state of its own.

    Half precision is widened for ``start`` and ``step``, in which the squares of small gradients
    would vanish.

    Args:
        start: ``(param) -> state`` of one tensor.
        step: ``(count, grads, states, params) -> [(update, state), ...]`` for all of them, with
            the number of updates including this one.
    """

    def init(params: Params) -> TensorStates:
        states = tuple(start(wide(leaf)) for leaf in jax.tree.leaves(params))
        return TensorStates(jnp.zeros((), jnp.int32), states)

    def update(grads: Params, state: TensorStates, params: Params) -> tuple[Params, TensorStates]:
        count = optax.safe_increment(state.count)
        leaves, treedef = jax.tree.flatten(params)
        tensors = [wide(leaf) for leaf in leaves]
        # A gradient in more digits than its parameter would widen the state.
        slopes = [
            jnp.asarray(g, p.dtype) for g, p in zip(jax.tree.leaves(grads), tensors, strict=True)
        ]
        some = [i for i, leaf in enumerate(tensors) if leaf.size]  # others have no mean
        columns = ([column[i] for i in some] for column in (slopes, state.tensors, tensors))
        updates, states = list(tensors), list(state.tensors)
        for i, (moved, after) in zip(some, step(count, *columns), strict=True):
            updates[i], states[i] = moved, after
        return jax.tree.unflatten(treedef, updates), TensorStates(count, tuple(states))

    return optax.GradientTransformation(init, update)


def each_tensor(
    start: Callable[[chex.Array], PyTree],
    step: Callable[[chex.Array, chex.Array, PyTree, chex.Array], tuple[chex.Array, PyTree]],
) -> optax.GradientTransformation:
    """``over_tensors`` where none sees another: ``(count, grad, state, param) -> (update, state)``.

    Args:
        start: ``(param) -> state`` of one tensor.
        step: of one tensor.
    """

    def all_of(
        count: chex.Array, grads: list[chex.Array], states: list[PyTree], params: list[chex.Array]
    ) -> list[tuple[chex.Array, PyTree]]:
        each = zip(grads, states, params, strict=True)
        return [step(count, *one) for one in each]

    return over_tensors(start, all_of)


def _check_params(name: str, params: Params) -> None:
    leaves = jax.tree.leaves_with_path(params)
    if not leaves:
        raise ValueError(f"{name} needs parameters, got a pytree without leaves")
    for path, leaf in leaves:
        if not is_float(jnp.asarray(leaf)):
            where = jax.tree_util.keystr(path) or "its only leaf"
            raise ValueError(
                f"{name} works on real floats, got {jnp.result_type(leaf)} at {where} "
                "(optax.masked leaves such leaves out)"
            )
