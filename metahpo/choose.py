"""The kind of optimiser as a hyperparameter."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo.base import HParams, Params, PyTree
from metahpo.space import Branch, OneOf
from metahpo.updates import typed_as

Transformations: TypeAlias = (
    Sequence[optax.GradientTransformation]
    | Mapping[str, Callable[[HParams], optax.GradientTransformation]]
)


def choose(
    index: chex.Numeric | OneOf | Branch, transformations: Transformations
) -> optax.GradientTransformationExtraArgs:
    """The transformation that a number names, which may be traced, or the branch of a ``OneOf``.

    Inside a program a ``Choice`` is the index of its value, so ``choose(h["optimizer"], [...])``
    makes the kind of optimiser one more dimension of a space.  All states are kept, and only the
    chosen one changes; one training runs the chosen update alone, under ``vmap`` all are computed.
    What is not chosen gets zeros for gradients, so that it cannot spoil derivatives.

    Where each kind has hyperparameters of its own, the space has a ``OneOf``; then the
    transformations are functions of a branch's values, by its name.

    Args:
        index: ``i[]``, which one, the nearest that there is for others; or the values of a
            ``OneOf``.
        transformations: at least one; of a ``OneOf``, ``{name: (values) -> transformation}``.

    Raises:
        ValueError: for no transformation, or unless there is one for each branch.

    Example:
        >>> import jax.numpy as jnp, optax, metahpo as mh
        >>> space = {"lr": mh.Float(1e-4, 1.0, log=True), "optimizer": mh.Choice(("sgd", "adam"))}
        >>> optimizer = lambda h: mh.choose(
        ...     h["optimizer"], [optax.sgd(h["lr"]), optax.adam(h["lr"])]
        ... )
        >>> update = optimizer({"lr": 0.1, "optimizer": jnp.array(1)})
        >>> round(float(update.update(jnp.array(4.0), update.init(jnp.array(0.0)))[0]), 5)
        -0.1
        >>> space = {"optimizer": mh.OneOf(
        ...     sgd={"lr": mh.Float(1e-2, 1.0, log=True)}, adam={"b1": mh.Float(0.5, 0.99)},
        ... )}
        >>> optimizer = lambda h: mh.choose(h["optimizer"], {
        ...     "sgd": lambda h: optax.sgd(h["lr"]), "adam": lambda h: optax.adam(0.1, b1=h["b1"]),
        ... })
        >>> update = optimizer(mh.space.decode(space, jnp.array([0.0, 1.0, 0.5])))
        >>> float(update.update(jnp.array(4.0), update.init(jnp.array(0.0)))[0])
        -4.0
    """
    if isinstance(transformations, Mapping):
        number, transformations = _by_branch(index, transformations)
    else:
        number = index
    if not transformations:
        raise ValueError("choose needs at least one transformation, got none")
    each = [optax.with_extra_args_support(one) for one in transformations]

    def init(params: Params) -> tuple[PyTree, ...]:
        return tuple(jax.tree.map(jnp.asarray, one.init(params)) for one in each)

    def update(
        updates: Params, state: tuple[PyTree, ...], params: Params | None = None, **extra: Any
    ) -> tuple[Params, tuple[PyTree, ...]]:
        chosen = jnp.clip(number, 0, len(each) - 1)

        def branch(i: int) -> Callable[[Params, tuple[PyTree, ...]], PyTree]:
            def run(updates: Params, state: tuple[PyTree, ...]) -> PyTree:
                here = chosen == i
                own = jax.tree.map(lambda g: jnp.where(here, g, jnp.zeros_like(g)), updates)
                out, new = each[i].update(own, state[i], params, **extra)
                out, new = jax.tree.map(typed_as, (out, new), (updates, state[i]))
                return out, (*state[:i], new, *state[i + 1 :])

            return run

        branches = [branch(i) for i in range(len(each))]
        return jax.lax.switch(chosen, branches, updates, state)

    return optax.GradientTransformationExtraArgs(init, update)


def _by_branch(
    chosen: Any, transformations: Mapping[str, Callable[[HParams], optax.GradientTransformation]]
) -> tuple[Any, list[optax.GradientTransformation]]:
    """The index of the branch, and the transformation of each branch's values."""
    if isinstance(chosen, Branch):  # on the host only this one has values
        return 0, [chosen.switch(transformations)]
    if not isinstance(chosen, OneOf):
        raise ValueError(
            "transformations by name are for the branches of a OneOf, got "
            f"{type(chosen).__name__}: for an index give a list"
        )
    if set(transformations) != set(chosen.names):
        raise ValueError(
            f"one transformation for each of the branches {chosen.names}, "
            f"got {tuple(transformations)}"
        )
    return chosen.which, [transformations[name](chosen[name]) for name in chosen.names]
