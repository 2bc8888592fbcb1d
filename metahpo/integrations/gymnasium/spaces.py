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
        decode: ``(value, lead) -> value``, the other way.
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
        return np.asarray(value, dtype).reshape(lead + dim.shape)

    return Table(own, encode, decode)


def _choices(leaves: list[Choice], treedef: Any) -> Table:
    counts = [np.full(dim.shape, len(dim.values)).reshape(-1) for dim in leaves]
    ends = np.cumsum([len(part) for part in counts])[:-1]
    own = gym_spaces.MultiDiscrete(np.concatenate(counts))

    def encode(value: PyTree, lead: tuple[int, ...]) -> np.ndarray:
        parts = [np.reshape(leaf, (*lead, -1)) for leaf in treedef.flatten_up_to(value)]
        return np.concatenate(parts, axis=-1).astype(own.dtype)

    def decode(value: Any, lead: tuple[int, ...]) -> PyTree:
        parts = np.split(np.asarray(value, np.int32), ends, axis=-1)
        return treedef.unflatten(
            [part.reshape(lead + dim.shape) for part, dim in zip(parts, leaves, strict=True)]
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
