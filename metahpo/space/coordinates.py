"""The coordinates of the unit cube: what they are called, and what strategies see of them."""

from collections.abc import Sequence
from dataclasses import replace

import chex
import numpy as np

from metahpo.space.cells import MOST_CELLS
from metahpo.space.choice import Choice
from metahpo.space.constant import Constant
from metahpo.space.numbers import Float, Int, steps
from metahpo.space.tree import Dimension, Leaf, Space, flatten, width


def dimensions(space: Space) -> dict[str, Dimension]:
    """The ``D`` coordinates of the unit cube in their order: a scalar dimension by its name.

    Nested names are joined by dots; the coordinates of ``{"x": Float(0, 1, shape=(2,))}`` are
    called ``x[0]`` and ``x[1]``.  A dimension with a step is here the number of its step, an
    ``Int`` from 0, and an ordered choice its index.  A ``OneOf`` is the ``Choice`` among the names
    of its branches, and is followed by the coordinates of all of them.  Constants have none.
    """
    found: dict[str, Dimension] = {}
    for name, dim in zip(*flatten(space)[:2], strict=True):
        if isinstance(dim, Constant):
            continue
        scalar = _as_searched(replace(dim, shape=()) if dim.shape else dim)
        for index in np.ndindex(dim.shape):
            found[name + "".join(f"[{i}]" for i in index)] = scalar
    return found


def _as_searched(dim: Dimension) -> Dimension:
    """What strategies see of a dimension: the number of a step instead of its value."""
    if isinstance(dim, Choice):
        return Int(0, len(dim.values) - 1) if dim.ordered else dim
    if dim.step is None or (isinstance(dim, Int) and dim.step == 1):
        return dim
    return Int(0, steps(dim) - 1)


def continuous(dim: Leaf) -> bool:
    """Whether it has a gradient."""
    return isinstance(dim, Float) and dim.step is None


def size(space: Space) -> int:
    """The number ``D`` of coordinates of the unit cube."""
    return sum(width(leaf) for leaf in flatten(space)[1])


def is_continuous(space: Space) -> np.ndarray:
    """``bool[D]``: which coordinates are floats, that is, have a gradient."""
    return np.concatenate([np.full(width(leaf), continuous(leaf)) for leaf in flatten(space)[1]])


def thresholds(space: Space) -> list[np.ndarray]:
    """The boundaries between the cells of integers and choices, for each of the ``D`` coordinates.

    ``decode`` gives one value everywhere between two neighbouring boundaries, and another one
    beyond.  Floats have none, and neither have integers of more than ``MOST_CELLS`` values, which
    for a search are as good as continuous.

    Returns:
        ``D`` sorted arrays ``f64[cells - 1]`` inside (0, 1).

    Example:
        >>> thresholds({"a": Float(0.0, 1.0), "b": Choice((1, 2, 3, 4))})
        [array([], dtype=float64), array([0.25, 0.5 , 0.75])]
    """
    return [_thresholds(dim) for dim in dimensions(space).values()]


def _thresholds(dim: Dimension) -> np.ndarray:
    if isinstance(dim, Choice):
        return np.arange(1, len(dim.values)) / len(dim.values)
    if isinstance(dim, Float) or dim.high - dim.low >= MOST_CELLS:
        return np.zeros(0)
    low, high = dim._ends()
    between = np.arange(dim.low, dim.high) + 0.5
    return ((np.log(between) if dim.log else between) - low) / (high - low)


def split(leaves: Sequence[Leaf], unit: chex.Array) -> list[chex.Array]:
    """The coordinates of every dimension, in its shape; of a constant, none."""
    ends = np.cumsum([width(leaf) for leaf in leaves]).tolist()
    parts = [unit[end - width(leaf) : end] for leaf, end in zip(leaves, ends, strict=True)]
    return [
        part if isinstance(leaf, Constant) else part.reshape(leaf.shape)
        for leaf, part in zip(leaves, parts, strict=True)
    ]
