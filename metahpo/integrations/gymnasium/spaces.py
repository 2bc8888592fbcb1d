"""Spaces of the library as those of gymnasium, and their values.

| of metahpo | of gymnasium |
|---|---|
| ``Choice`` | ``Discrete`` |
| ``Choice(shape=)`` | ``MultiDiscrete`` of this shape |
| a pytree of choices | ``MultiDiscrete`` of all of them, one after the other |
| ``Float``, ``Int`` | ``Box`` of float32, int32; of shape ``(1,)`` without a shape |
| another pytree | ``Dict`` by the names of its leaves |
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium import spaces as gym_spaces

from metahpo import space as spaces
from metahpo.base import PyTree
from metahpo.space import Choice, Float, Int, Space


class Table(NamedTuple):
    """A space of gymnasium, and values to and fro.

    Attributes:
        space: of gymnasium.
        encode: ``(value, lead) -> value``: arrays of the library as fresh ones of gymnasium; both
            with leading axes of the shape ``lead``.
        decode: ``(value, lead) -> value``, the other way; a ``ValueError`` for another shape, a
            choice that there is not and what is not finite.
    """

    space: gym_spaces.Space
    encode: Callable[[PyTree, tuple[int, ...]], Any]
    decode: Callable[[Any, tuple[int, ...]], PyTree]


def table(space: Space) -> Table:
    """What stands for a space.

    Raises:
        ValueError: for what is no space, or has leaves without a counterpart.
    """
    names, leaves = spaces.names(space), jax.tree.leaves(space)
    treedef: Any = jax.tree.structure(space)
    for name, leaf in zip(names, leaves, strict=True):
        if not isinstance(leaf, Choice | Float | Int):
            raise ValueError(f"gymnasium has no space for {leaf} at {name or '(root)'}")
    if jax.tree_util.treedef_is_leaf(treedef):
        return _leaf(leaves[0])
    if all(isinstance(leaf, Choice) for leaf in leaves):
        return _choices(leaves, treedef)
    return _named(names, leaves, treedef)


def _leaf(dim: Choice | Float | Int) -> Table:
    own: gym_spaces.Space
    dtype: Any = np.int32
    if isinstance(dim, Choice) and dim.shape:
        own = gym_spaces.MultiDiscrete(np.full(dim.shape, len(dim.values)))
    elif isinstance(dim, Choice):
        own = gym_spaces.Discrete(len(dim.values))
    else:
        dtype = np.float32 if isinstance(dim, Float) else np.int32
        own = gym_spaces.Box(dim.low, dim.high, dim.shape or (1,), dtype)
    shape = own.shape or ()

    def encode(value: Any, lead: tuple[int, ...]) -> Any:
        # An array without axes becomes the number that it holds.
        return np.array(value, own.dtype).reshape(lead + shape)[()]

    def decode(value: Any, lead: tuple[int, ...]) -> np.ndarray:
        array = _fitting(value, lead + shape)
        if isinstance(dim, Choice) and not ((array >= 0) & (array < len(dim.values))).all():
            raise ValueError(f"a choice must be in 0 ... {len(dim.values) - 1}, got {value}")
        return array.astype(dtype).reshape(lead + dim.shape)

    return Table(own, encode, decode)


def _fitting(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """As an array of numbers of this shape, all finite."""
    array = np.asarray(value)
    if array.shape != shape or array.dtype.kind not in "iuf":
        raise ValueError(f"there must be numbers of shape {shape}, got {value!r}")
    if not np.isfinite(array).all():
        raise ValueError(f"numbers must be finite, got {value}")
    return array


def _choices(leaves: list[Choice], treedef: Any) -> Table:
    counts = [np.full(dim.shape, len(dim.values)).reshape(-1) for dim in leaves]
    ends = np.cumsum([len(part) for part in counts])[:-1]
    own = gym_spaces.MultiDiscrete(np.concatenate(counts))

    def encode(value: PyTree, lead: tuple[int, ...]) -> np.ndarray:
        parts = [np.reshape(leaf, (*lead, -1)) for leaf in treedef.flatten_up_to(value)]
        return np.concatenate(parts, axis=-1).astype(own.dtype)

    def decode(value: Any, lead: tuple[int, ...]) -> PyTree:
        parts = np.split(_fitting(value, lead + own.shape), ends, axis=-1)
        pairs = zip(map(_leaf, leaves), leaves, parts, strict=True)
        return treedef.unflatten(
            [each.decode(part.reshape(lead + dim.shape), lead) for each, dim, part in pairs]
        )

    return Table(own, encode, decode)


def _named(names: list[str], leaves: list[Any], treedef: Any) -> Table:
    tables = dict(zip(names, map(_leaf, leaves), strict=True))

    def encode(value: PyTree, lead: tuple[int, ...]) -> dict[str, Any]:
        own = dict(zip(names, treedef.flatten_up_to(value), strict=True))
        return {name: tables[name].encode(own[name], lead) for name in names}

    def decode(value: Any, lead: tuple[int, ...]) -> PyTree:
        return treedef.unflatten([tables[name].decode(value[name], lead) for name in names])

    return Table(
        gym_spaces.Dict({name: each.space for name, each in tables.items()}), encode, decode
    )
