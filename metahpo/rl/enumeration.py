"""The values of a finite space, numbered: for tables, and for agents that value every action."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo.base import PyTree
from metahpo.space import Choice, Int, Space


class Enumeration(NamedTuple):
    """The values of a space, one after the other.

    Attributes:
        size: how many there are (static).
        number: ``(value) -> i32[]``, from 0.
        value: ``(number) -> value``.
    """

    size: int
    number: Callable[[PyTree], chex.Array]
    value: Callable[[chex.Array], PyTree]


def enumeration(space: Space, what: str = "the space") -> Enumeration:
    """Numbers the values of a space of ``Choice`` and ``Int``; the last entry changes fastest.

    Args:
        space: any pytree of them, with shapes or without.
        what: is enumerated, for the message.

    Raises:
        ValueError: for a space with other dimensions, or of more than 2 ** 31 values.

    Example:
        >>> pairs = enumeration({"a": Choice(("x", "y")), "b": Int(-1, 1)})
        >>> pairs.size, int(pairs.number({"a": jnp.int32(1), "b": jnp.int32(-1)}))
        (6, 3)
        >>> jax.tree.map(int, pairs.value(jnp.int32(3)))
        {'a': 1, 'b': -1}
    """
    treedef: Any
    dims, treedef = jax.tree.flatten(space)
    for dim in dims:
        if not isinstance(dim, Choice | Int) or (isinstance(dim, Int) and dim.step != 1):
            raise ValueError(f"{what} must be of choices and whole numbers, got {dim}")
    counts = [len(d.values) if isinstance(d, Choice) else d.high - d.low + 1 for d in dims]
    lows = [0 if isinstance(dim, Choice) else dim.low for dim in dims]
    lengths = [math.prod(dim.shape) for dim in dims]
    base = [count for count, length in zip(counts, lengths, strict=True) for _ in range(length)]
    size = math.prod(base)
    if size >= 2**31:
        raise ValueError(f"{what} must have fewer than 2 ** 31 values, got {size}")
    strides = np.append(np.cumprod(base[:0:-1])[::-1], 1).astype(np.int32)

    def number(value: PyTree) -> chex.Array:
        entries = [
            (jnp.asarray(leaf, jnp.int32) - low).reshape(-1)
            for leaf, low in zip(treedef.flatten_up_to(value), lows, strict=True)
        ]
        return (jnp.concatenate(entries) * strides).sum(dtype=jnp.int32)

    def value(number: chex.Array) -> PyTree:
        entries = (jnp.asarray(number, jnp.int32) // strides) % np.asarray(base, np.int32)
        parts = jnp.split(entries, np.cumsum(lengths)[:-1])
        return treedef.unflatten(
            [
                (part + low).reshape(dim.shape).astype(jnp.int32)
                for part, low, dim in zip(parts, lows, dims, strict=True)
            ]
        )

    return Enumeration(size, number, value)
