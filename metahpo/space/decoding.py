"""From a point of the unit cube to hyperparameters, inside a program."""

import chex
import jax
import jax.numpy as jnp

from metahpo.base import HParams, Key
from metahpo.space.conditions import active, canonical, is_conditional
from metahpo.space.constant import Constant
from metahpo.space.coordinates import continuous, size, split
from metahpo.space.numbers import Float
from metahpo.space.tree import Space, flatten


def decode(space: Space, unit: chex.Array) -> HParams:
    """Turns a point of the unit cube into hyperparameters.

    Args:
        space: the search space.
        unit: ``f32[D]`` or ``f64[D]`` in [0, 1].

    Returns:
        A pytree like ``space`` of arrays of the dimensions' shapes, scalars by default: floats of
        ``unit``'s type, ``i32`` for ``Int`` (the number) and ``Choice`` (the index), constants as
        they are.  Gradients flow through the floats.  In branches of a ``OneOf`` that are not
        chosen, values are those in the middle, whatever ``unit`` is there.

    Raises:
        ValueError: if ``space`` is not a space or ``unit`` has another length.
    """
    _, leaves, treedef = flatten(space)
    unit = jnp.asarray(unit)
    if unit.shape != (size(space),):
        raise ValueError(f"unit must have shape ({size(space)},) for this space, got {unit.shape}")
    parts = split(leaves, canonical(space, unit))
    return treedef.unflatten(
        [
            leaf.decode(unit.dtype if isinstance(leaf, Constant) else part)
            for leaf, part in zip(leaves, parts, strict=True)
        ]
    )


def pullback(space: Space, unit: chex.Array, grad: HParams) -> chex.Array:
    """The gradient ``f[D]`` on the unit cube of a function with gradient ``grad`` at ``decode``.

    Coordinates of integers and choices get zero, and so do those that are not active.
    """
    names, leaves, treedef = flatten(space)
    columns = []
    grads = treedef.flatten_up_to(grad)
    parts = split(leaves, unit)
    for name, dim, u, g in zip(names, leaves, parts, grads, strict=True):
        if isinstance(dim, Float) and continuous(dim):
            if jnp.shape(g) != dim.shape:
                raise ValueError(
                    f"the gradient of {name} must have shape {dim.shape}, got {jnp.shape(g)}"
                )
            slope = jax.jvp(dim.decode, (u,), (jnp.ones_like(u),))[1]
            columns.append((slope * jnp.asarray(g, dtype=u.dtype)).reshape(-1))
        else:
            columns.append(jnp.zeros(u.size, u.dtype))
    slopes = jnp.concatenate(columns)
    return jnp.where(active(space, unit), slopes, 0.0) if is_conditional(space) else slopes


def sample(key: Key, space: Space) -> HParams:
    """Draws hyperparameters uniformly from the unit cube."""
    return decode(space, jax.random.uniform(key, (size(space),)))
