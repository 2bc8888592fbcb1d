"""What strategies share that sample a normal distribution without bounds in the unit cube.

A sample outside the cube is evaluated where it is clipped to, and learned from where it was drawn,
so that the distribution stays normal and an optimum on a bound is reached exactly.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from metahpo import space as spaces
from metahpo.base import Key, StopReason
from metahpo.lanes import when
from metahpo.space import Space
from metahpo.strategies import margin, parts


class Samples(NamedTuple):
    """What a proposal notes of the samples behind its points.

    Attributes:
        z: ``f[P, D]``, standardised.
        unit: ``f[P, D]``, the points.
        redrawn: ``bool[P, K]``, choices that the points got otherwise.
    """

    z: chex.Array
    unit: chex.Array
    redrawn: chex.Array


def start(
    key: Key, space: Space, population: int, initial: chex.Array | None
) -> tuple[chex.Array, chex.Array]:
    """The first mean ``f[D]`` and the points ``f[K, D]`` that the first round must evaluate.

    The mean is that of the given points, and the centre of the cube without any.
    """
    if initial is None or jnp.shape(initial)[0] == 0:
        dtype = jnp.result_type(float)
        size = spaces.size(space)
        return jnp.full(size, 0.5, dtype), jnp.zeros((0, size), dtype)
    given = parts.starting_points(key, space, population, initial)[: jnp.shape(initial)[0]]
    return given.mean(0), given


def inject(
    first: chex.Array, given: chex.Array, mean: chex.Array, std: chex.Array, z: chex.Array
) -> chex.Array:
    """Standardised samples ``f[P, D]``, in the first round those of the given points before all.

    They are ``shortened``.

    Args:
        first: ``bool[]``, whether this is the first round.
        given: ``f[K, D]``.
        mean: ``f[D]``.
        std: ``f[D]``, the first distribution has independent coordinates.
        z: ``f[P, D]``, standard normal.
    """
    count = given.shape[0]
    if not count:
        return z
    step = shortened((given - mean) / std)
    return jnp.where(first, jnp.concatenate([step, z[count:]]), z)


def shortened(z: chex.Array) -> chex.Array:
    """Standardised points ``f[N, D]`` that were not drawn, no longer than what is.

    They may lie many standard deviations from the mean, and are learned from as if they lay no
    farther than a long normal sample, ``sqrt(D) + 2 D / (D + 2)`` (Hansen, Injecting external
    solutions into CMA-ES, arXiv 1110.4181, section 3).
    """
    size = z.shape[1]
    length = jnp.sqrt((z**2).sum(1, keepdims=True))
    limit = math.sqrt(size) + 2 * size / (size + 2)
    return z * jnp.minimum(1.0, limit / jnp.maximum(length, 1e-12))


def as_told(
    standardised: Callable[..., chex.Array],
    samples: Samples,
    unit: chex.Array,
    *distribution: chex.Array,
) -> chex.Array:
    """``f[P, D]``: the standardised samples behind the points that are told.

    Those of points that are told as they were proposed are the numbers that drew them, to the bit.
    Whoever told another point (a repaired one, one from elsewhere) is learned from where it is.

    Args:
        standardised: ``(unit f[P, D], *distribution) -> f[P, D]``; closes over no traced value.
        samples: what the proposal noted.
        unit: ``f[P, D]``, as told.
        *distribution: that has drawn the samples.
    """

    def from_points(
        z: chex.Array, asked: chex.Array, unit: chex.Array, *distribution: chex.Array
    ) -> chex.Array:
        moved = (unit != asked).any(1, keepdims=True)
        return jnp.where(moved, shortened(standardised(unit, *distribution)), z)

    if unit is samples.unit:  # known before the program runs: within a run nobody changes them
        return samples.z
    other = (unit != samples.unit).any()
    return when(other, from_points, samples.z, samples.unit, unit, *distribution)


def standardised(unit: chex.Array, mean: chex.Array, std: chex.Array) -> chex.Array:
    """``f[P, D]``, the points in standard deviations of independent coordinates from the mean."""
    return (unit - mean) / std


def evaluated(first: chex.Array, given: chex.Array, sample: chex.Array) -> chex.Array:
    """The points ``f[P, D]`` of the cube that are evaluated for ``sample`` ``f[P, D]``."""
    unit = jnp.clip(sample, 0.0, 1.0)
    if not given.shape[0]:
        return unit
    return jnp.where(first, jnp.concatenate([given, unit[given.shape[0] :]]), unit)


def contain(
    cells: margin.Cells | None, mean: chex.Array, std: chex.Array, alpha: chex.Numeric
) -> tuple[chex.Array, chex.Array]:
    """Keeps the distribution of use: near the cube, no wider than it, and wide enough for cells.

    The mean stays within one standard deviation of the cube, the standard deviations below 1, and
    the cells of integers and choices are left with the probability ``alpha``.

    Returns:
        The new mean ``f[D]``, and the factors ``f[D]`` for the marginal standard deviations.
    """
    shrink = jnp.minimum(1.0, 1.0 / std)
    mean = jnp.clip(mean, -std, 1.0 + std)
    mean, grow = margin.correct(cells, mean, std * shrink, alpha)
    return mean, shrink * grow


def collapse(space: Space) -> Callable[[chex.Array], chex.Array] | None:
    """``(std f[D]) -> i32[]``: ``COLLAPSE`` once no float can change any more in the cube.

    ``None`` for a space without floats, because the margin keeps the others changing.
    """
    floats = spaces.is_continuous(space)
    if not floats.any():
        return None
    chosen = np.flatnonzero(floats)

    def reason(std: chex.Array) -> chex.Array:
        collapsed = (std[chosen] < 0.1 * jnp.finfo(std.dtype).eps).all()
        return jnp.where(collapsed, StopReason.COLLAPSE, StopReason.RUNNING).astype(jnp.int32)

    return reason
