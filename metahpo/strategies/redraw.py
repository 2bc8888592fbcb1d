"""Integers and choices drawn anew, now and then, so that a search keeps trying all their values.

A population that has lost a value cannot get it back from differences of its members; a normal
distribution reaches only the neighbours of the value that its mean stands in, which for unordered
choices means nothing.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import space as spaces
from metahpo.base import Key
from metahpo.space import Choice, Space

TWO_VALUES = 2  # the one that is not the mean's is its neighbour


def discrete(space: Space) -> np.ndarray:
    """``int[K]``: the coordinates of integers and choices."""
    return np.flatnonzero([len(row) > 0 for row in spaces.thresholds(space)])


def unordered(space: Space) -> np.ndarray:
    """``int[K]``: the coordinates of choices among more than two values."""
    return np.flatnonzero(
        [
            isinstance(dim, Choice) and len(dim.values) > TWO_VALUES
            for dim in spaces.dimensions(space).values()
        ]
    )


def default_rate(population: int, size: int, count: int) -> float:
    """A rate at which ``count`` of ``size`` coordinates meet about four redraws a generation.

    At most a quarter of the points is disturbed.
    """
    return min(4.0 / (population * size), 1.0 / (4.0 * max(count, 1)))


def redraw(
    key: Key, unit: chex.Array, columns: np.ndarray, rate: chex.Numeric
) -> tuple[chex.Array, chex.Array]:
    """Draws coordinates anew, each with a small probability; one random number does both.

    Args:
        key: used up.
        unit: ``f[P, D]``, points of the unit cube.
        columns: ``int[K]``, which coordinates; static.
        rate: ``f[]`` in (0, 1], the probability of each.

    Returns:
        The points, and ``bool[P, K]``, what was drawn anew.

    Example:
        >>> points = jnp.full((2, 3), 0.5)
        >>> missing = jax.jit(lambda key: redraw(key, points, np.array([0, 2]), 1.0))
        >>> unit, drawn = missing(jax.random.key(0))
        >>> (unit == 0.5).tolist(), bool(drawn.all())
        ([[False, True, False], [False, True, False]], True)
    """
    if not len(columns):
        return unit, jnp.zeros((unit.shape[0], 0), bool)
    number = jax.random.uniform(key, (unit.shape[0], len(columns)), unit.dtype)
    drawn = number < rate
    # Below the rate the number is uniform in [0, rate).
    value = jnp.where(drawn, number / rate, unit[:, columns])
    return unit.at[:, columns].set(value), drawn


def mutated(key: Key, trials: chex.Array, columns: np.ndarray) -> chex.Array:
    """Trials ``f[P, D]`` with some coordinates drawn anew, at the default rate.

    For populations that move by differences of their members.
    """
    population, size = trials.shape
    return redraw(key, trials, columns, default_rate(population, size, len(columns)))[0]


def keys(key: Key, columns: np.ndarray) -> tuple[Key, Key]:
    """Two keys; without columns nobody draws from the second, and it costs nothing."""
    if not len(columns):
        return key, key
    first, second = jax.random.split(key)
    return first, second


def follow(
    mean: chex.Array,
    unit: chex.Array,
    columns: np.ndarray,
    drawn: chex.Array,
    loss: chex.Array,
) -> chex.Array:
    """The mean ``f[D]``, moved to what the best point had drawn anew.

    A normal distribution learns nothing from a coordinate that it did not draw, so a new value
    that makes a point the best of its generation is taken over as it is.

    Args:
        mean: ``f[D]``.
        unit: ``f[P, D]``, the points of the generation.
        columns: as in ``redraw``.
        drawn: ``bool[P, K]``, from ``redraw``.
        loss: ``f[P]``; not followed unless one is strictly the best.
    """
    if not len(columns):
        return mean
    best = jnp.argmin(loss)
    alone = jnp.isfinite(loss[best]) & ((loss <= loss[best]).sum() == 1)
    value = jnp.where(drawn[best] & alone, unit[best, columns], mean[columns])
    return mean.at[columns].set(value)
