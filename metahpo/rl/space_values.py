"""Observations and actions as values of a space."""

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp

from metahpo.base import PyTree
from metahpo.space import Choice, Float, Space, names


def check_value(what: str, space: Space, value: PyTree) -> None:
    """Raises ``ValueError`` unless a value has the structure, shapes and kinds of a space.

    Traced values have no numbers yet, so bounds are not looked at.

    Args:
        what: is the value, for the message.
        space: that it should be of.
        value: a pytree of arrays, or of their shapes and types.

    Example:
        >>> check_value("the action", Choice(("left", "right")), jnp.int32(1))
    """
    wanted: Any = jax.tree.structure(space)
    found: Any = jax.tree.structure(value)
    if wanted != found:
        raise ValueError(f"{what} must have the structure {wanted} of its space, got {found}")
    for name, dim, leaf in zip(
        names(space), jax.tree.leaves(space), jax.tree.leaves(value), strict=True
    ):
        at = f" at {name}" if name else ""
        shape, dtype = jnp.shape(leaf), jnp.result_type(leaf)
        if shape != dim.shape:
            raise ValueError(f"{what} must have shape {dim.shape}{at}, got {shape}")
        kind = jnp.floating if isinstance(dim, Float) else jnp.integer
        if not jnp.issubdtype(dtype, kind):
            raise ValueError(f"{what} must be of type {kind.__name__}{at}, got {dtype}")


def flat_size(space: Space) -> int:
    """The length of what ``flatten`` makes of a value of the space."""
    return sum(
        math.prod(dim.shape) * (len(dim.values) if isinstance(dim, Choice) else 1)
        for dim in jax.tree.leaves(space)
    )


def flatten(space: Space, value: PyTree) -> chex.Array:
    """A value as a vector ``f[flat_size]`` for a network: numbers as they are, choices one-hot.

    Example:
        >>> space = {"place": Choice(("a", "b", "c")), "speed": Float(-1.0, 1.0, shape=(2,))}
        >>> flatten(space, {"place": jnp.int32(1), "speed": jnp.array([0.5, -0.5])})
        Array([ 0. ,  1. ,  0. ,  0.5, -0.5], dtype=float32)
    """
    parts = [
        jax.nn.one_hot(leaf, len(dim.values)) if isinstance(dim, Choice) else jnp.asarray(leaf)
        for dim, leaf in zip(jax.tree.leaves(space), jax.tree.leaves(value), strict=True)
    ]
    dtype = jnp.result_type(*(p for p in parts if jnp.issubdtype(p.dtype, jnp.floating)), 0.0)
    return jnp.concatenate([part.reshape(-1).astype(dtype) for part in parts])
