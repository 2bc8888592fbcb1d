"""Points near a centre of mixed dimensions, and what a Gaussian process sees of them.

Floats are drawn in a box.  Integers and choices, which a small box would freeze, make local moves
(Casmopolitan: Wan, Nguyen, Ha, Ru, Lu & Osborne 2021, section 4): some of them change, an integer
by one at least, a choice to another value.

The kernel's distance counts floats in edges of the box, so that one length scale suits boxes of all
sizes; integers in edges too, but in cells where these are larger; and a choice as one distance
between any two different values, which is Casmopolitan's kernel for them (equation 1) in the form
of a product instead of their mixture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import cube
from metahpo.space import Choice, Dimension, Float, Int

APART = 1.0  # distance between two different choices, in edges
MOST_FLOATS = 20.0  # of a candidate that move, in the mean: TuRBO's coordinate perturbation


class Box(NamedTuple):
    """Where to look for better points.

    Attributes:
        dims: of the ``d`` coordinates.
        length: ``f[]``, edge in the unit cube; or ``f[d]``, one for each coordinate.
        origin: ``f[d]``, any point nearby; distances are taken from it, for the digits' sake.
        rate: how often a candidate changes a choice.
    """

    dims: Sequence[Dimension]
    length: chex.Array
    origin: chex.Array
    rate: chex.Numeric


def embedded(box: Box, points: chex.Array) -> chex.Array:
    """``f[M, F]``: what the process sees of the points ``f[M, d]``."""
    ordered = [i for i, dim in enumerate(box.dims) if not isinstance(dim, Choice)]
    edges = jnp.maximum(box.length, jnp.asarray(cube.cell_widths(box.dims), points.dtype))
    near = (cube.snapped(box.dims, points) - cube.snapped(box.dims, box.origin)) / edges
    parts = [near[:, np.array(ordered, int)]]
    for dim, columns in cube.grouped(box.dims).items():
        if isinstance(dim, Choice):
            index = dim.decode(points[:, columns])
            hot = jax.nn.one_hot(index, len(dim.values), dtype=points.dtype)
            parts.append(hot.reshape(len(points), -1) * (APART / 2**0.5))
    return jnp.concatenate(parts, axis=1)


def moved(box: Box, centre: chex.Array, rows: chex.Array) -> chex.Array:
    """``f[M, d]``: candidates around the centre ``f[d]``, from ``f[M, 2 d]`` of U(0, 1)."""
    drawn, active = jnp.split(rows, 2, axis=1)
    low, high = bounds(box, centre)
    floats = jnp.where(active < MOST_FLOATS / len(box.dims), low + (high - low) * drawn, centre)
    points = floats.astype(centre.dtype)
    discrete = sum(not isinstance(dim, Float) for dim in box.dims)
    edges = jnp.broadcast_to(box.length, centre.shape)
    for dim, columns in cube.grouped(box.dims).items():
        if isinstance(dim, Float):
            continue
        at, u, chance = centre[columns], drawn[:, columns], active[:, columns]
        if isinstance(dim, Int):
            # As often as a float in the box would leave the cell, but one in the mean at least.
            width = 2 * cube.half_a_cell([dim] * len(columns), at[None])[0]
            rate = jnp.maximum(jnp.maximum(box.rate, 1 / discrete), 1 - width / edges[columns])
            other = another_number(dim, at, jnp.maximum(edges[columns] / 2, width), u)
        else:
            rate, other = box.rate, dim.encode(cube.another_choice(dim, dim.decode(at), u))
        points = points.at[:, columns].set(jnp.where(chance < rate, other, at).astype(points.dtype))
    return points


def refined(
    box: Box, centre: chex.Array, best: chex.Array, rows: chex.Array, radius: float
) -> chex.Array:
    """``f[M, d]``: neighbours of a candidate, within ``radius`` edges; choices stay.

    An integer moves where its cells are smaller than that.
    """
    ordered = np.array([not isinstance(dim, Choice) for dim in box.dims])
    whole = np.array([isinstance(dim, Int) for dim in box.dims])
    low, high = bounds(box, centre)
    low, high = jnp.where(whole, 0.0, low), jnp.where(whole, 1.0, high)
    step = radius * box.length * (2 * rows[:, : len(box.dims)] - 1)
    return jnp.where(ordered, jnp.clip(best + step, low, high), best).astype(best.dtype)


def bounds(box: Box, centre: chex.Array) -> tuple[chex.Array, chex.Array]:
    """The corners of the box around ``centre``, cut at those of the unit cube."""
    return jnp.maximum(centre - box.length / 2, 0.0), jnp.minimum(centre + box.length / 2, 1.0)


def another_number(dim: Int, at: chex.Array, reach: chex.Array, u: chex.Array) -> chex.Array:
    """Up to ``reach`` away, by one at least, mirrored where there is nothing beyond."""
    move = 2 * u - 1
    number = dim.decode(at)
    new = dim.decode(jnp.clip(at + reach * move, 0.0, 1.0))
    return dim.encode(jnp.where(new == number, cube.next_number(dim, number, move >= 0), new))
