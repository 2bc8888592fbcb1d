"""The kind of optimiser as a hyperparameter."""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo.base import Params, PyTree
from metahpo.updates import typed_as


def choose(
    index: chex.Numeric, transformations: Sequence[optax.GradientTransformation]
) -> optax.GradientTransformationExtraArgs:
    """The transformation that a number names, which may be traced.

    Inside a program a ``Choice`` is the index of its value, so ``choose(h["optimizer"], [...])``
    makes the kind of optimiser one more dimension of a space.  All states are kept, and only the
    chosen one changes; one training runs the chosen update alone, under ``vmap`` all are computed.
    What is not chosen gets zeros for gradients, so that it cannot spoil derivatives.

    Args:
        index: ``i[]``, which one; the nearest that there is for others.
        transformations: at least one.

    Raises:
        ValueError: for no transformation.

    Example:
        >>> import jax.numpy as jnp, optax, metahpo as mh
        >>> space = {"lr": mh.Float(1e-4, 1.0, log=True), "optimizer": mh.Choice(("sgd", "adam"))}
        >>> optimizer = lambda h: mh.choose(
        ...     h["optimizer"], [optax.sgd(h["lr"]), optax.adam(h["lr"])]
        ... )
        >>> update = optimizer({"lr": 0.1, "optimizer": jnp.array(1)})
        >>> round(float(update.update(jnp.array(4.0), update.init(jnp.array(0.0)))[0]), 5)
        -0.1
    """
    if not transformations:
        raise ValueError("choose needs at least one transformation, got none")
    each = [optax.with_extra_args_support(one) for one in transformations]

    def init(params: Params) -> tuple[PyTree, ...]:
        return tuple(jax.tree.map(jnp.asarray, one.init(params)) for one in each)

    def update(
        updates: Params, state: tuple[PyTree, ...], params: Params | None = None, **extra: Any
    ) -> tuple[Params, tuple[PyTree, ...]]:
        chosen = jnp.clip(index, 0, len(each) - 1)

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
