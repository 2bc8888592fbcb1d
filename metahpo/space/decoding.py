"""From a point of the unit cube to hyperparameters, inside a program."""

import chex
import jax
import jax.numpy as jnp

from metahpo.base import HParams, Key
from metahpo.space.coordinates import continuous, size, split
from metahpo.space.tree import Space, flatten


def decode(space: Space, unit: chex.Array) -> HParams:
    """Turns a point of the unit cube into hyperparameters.

    Args:
        space: the search space.
        unit: ``f32[D]`` or ``f64[D]`` in [0, 1].

    Returns:
        A pytree like ``space`` of arrays of the dimensions' shapes, scalars by default: floats of
        ``unit``'s type, ``i32`` for ``Int`` (the number) and ``Choice`` (the index).  Gradients
        flow through the floats.

    Raises:
        ValueError: if ``space`` is not a space or ``unit`` has another length.
    """
    _, dims, treedef = flatten(space)
    unit = jnp.asarray(unit)
    if unit.shape != (size(space),):
        raise ValueError(f"unit must have shape ({size(space)},) for this space, got {unit.shape}")
    parts = split(dims, unit)
    return treedef.unflatten([dim.decode(part) for dim, part in zip(dims, parts, strict=True)])


def pullback(space: Space, unit: chex.Array, grad: HParams) -> chex.Array:
    """The gradient ``f[D]`` on the unit cube of a function with gradient ``grad`` at ``decode``.

    Coordinates of integers and choices get zero.
    """
    names, dims, treedef = flatten(space)
    columns = []
    grads = treedef.flatten_up_to(grad)
    for name, dim, u, g in zip(names, dims, split(dims, unit), grads, strict=True):
        if continuous(dim):
            if jnp.shape(g) != dim.shape:
                raise ValueError(
                    f"the gradient of {name} must have shape {dim.shape}, got {jnp.shape(g)}"
                )
            slope = jax.jvp(dim.decode, (u,), (jnp.ones_like(u),))[1]
            columns.append((slope * jnp.asarray(g, dtype=u.dtype)).reshape(-1))
        else:
            columns.append(jnp.zeros(u.size, u.dtype))
    return jnp.concatenate(columns)


def sample(key: Key, space: Space) -> HParams:
    """Draws hyperparameters uniformly from the unit cube."""
    return decode(space, jax.random.uniform(key, (size(space),)))
