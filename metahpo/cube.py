"""The unit cube's geometry: bounds that reflect, cells of integers and choices, their neighbours.

``decode`` gives one value everywhere in a cell, so what moves within a cell has not moved at all.
"""

from collections.abc import Sequence

import chex
import jax.numpy as jnp
import numpy as np

from metahpo.space import Choice, Dimension, Float, Int


def reflected(point: chex.Array) -> chex.Array:
    """Folds the real line into [0, 1]: a mirror at each bound, as often as it takes."""
    away = jnp.abs(point)
    folded = away - 2.0 * jnp.floor(away / 2.0)
    return jnp.clip(jnp.where(folded > 1.0, 2.0 - folded, folded), 0.0, 1.0)


def grouped(dims: Sequence[Dimension]) -> dict[Dimension, np.ndarray]:
    """The coordinates of every distinct dimension; of a choice, only its size is kept."""
    groups: dict[Dimension, list[int]] = {}
    for column, dim in enumerate(dims):
        alike = Choice(tuple(range(len(dim.values)))) if isinstance(dim, Choice) else dim
        groups.setdefault(alike, []).append(column)
    return {dim: np.array(columns) for dim, columns in groups.items()}


def ordered(dims: Sequence[Dimension]) -> dict[Float | Int, np.ndarray]:
    """``grouped`` without the choices, which have no order."""
    return {dim: at for dim, at in grouped(dims).items() if not isinstance(dim, Choice)}


def cell_widths(dims: Sequence[Dimension]) -> np.ndarray:
    """``f64[d]``: the mean widths of integers' cells in the unit cube, 0 for other dimensions."""
    return np.array([1 / (d.high - d.low + 1) if isinstance(d, Int) else 0.0 for d in dims])


def half_a_cell(dims: Sequence[Dimension], unit: chex.Array) -> chex.Array:
    """``f[P, d]``: half of the width of the integer's cell at ``unit``, 0 for other dimensions.

    A move of half a cell times U(1/2, 3/2) can leave the cell from everywhere in it.
    """
    halves = jnp.zeros_like(unit)
    for dim, columns in grouped(dims).items():
        if isinstance(dim, Int):
            number = dim.decode(unit[:, columns]).astype(unit.dtype)
            width = dim.encode(number + 0.5) - dim.encode(number - 0.5)
            halves = halves.at[:, columns].set(width.astype(unit.dtype) / 2)
    return halves


def snapped(dims: Sequence[Dimension], unit: chex.Array) -> chex.Array:
    """``f[..., d]``: integers at one point of their cell, as an objective is constant in it."""
    for dim, columns in grouped(dims).items():
        if isinstance(dim, Int):
            point = dim.encode(dim.decode(unit[..., columns]))
            unit = unit.at[..., columns].set(point.astype(unit.dtype))
    return unit


def next_number(dim: Int, number: chex.Array, up: chex.Array) -> chex.Array:
    """The whole number above or below; at a bound, the one inside."""
    up = (up | (number == dim.low)) & (number != dim.high)
    return jnp.where(up, number + 1, number - 1)


def another_choice(dim: Choice, index: chex.Array, u: chex.Array) -> chex.Array:
    """Any other value's index, uniformly for ``u`` of U(0, 1); the same if there is no other."""
    count = len(dim.values)
    ahead = jnp.minimum(1 + (u * (count - 1)).astype(jnp.int32), count - 1)
    return (index + ahead) % count
