"""The margin that keeps the integers and choices of a normal distribution mutating.

A search distribution that converges on its floats becomes far narrower than the cells of the
integers, which then stand still wherever they happen to be.  The margin correction of CMA-ES with
Margin (Hamano, Saito, Nomura & Shirakawa 2022, arXiv 2205.13482; extended in arXiv 2212.09260)
bounds the probability of leaving a cell from below.  It is written here for any boundaries of
cells, so for ``Int``, logarithmic ``Int`` and ``Choice`` alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri

# More boundaries than this are searched by halving, fewer by comparing with all of them at once.
MOST_COMPARED = 512


class Cells(NamedTuple):
    """The coordinates that have cells, and the boundaries between these; static.

    Attributes:
        discrete: ``bool[D]``, which coordinates have at least one boundary.
        place: ``int[D]``, the row of ``boundaries`` of a discrete coordinate, 0 for the others.
        boundaries: ``f64[K, T]``, sorted, filled up with ``inf``.
    """

    discrete: np.ndarray
    place: np.ndarray
    boundaries: np.ndarray


def cells(thresholds: Sequence[np.ndarray]) -> Cells | None:
    """The cells of a space, from ``spaces.thresholds(space)``.

    Args:
        thresholds: for each of the ``D`` coordinates the sorted boundaries between neighbouring
            cells, none for a float.

    Returns:
        ``Cells``, or ``None`` if all coordinates are floats, so that nobody pays for a correction.
    """
    discrete = np.array([len(row) > 0 for row in thresholds], bool)
    if not discrete.any():
        return None
    rows = [np.asarray(row, np.float64) for row in thresholds if len(row)]
    boundaries = np.full((len(rows), max(map(len, rows))), np.inf)
    for filled, row in zip(boundaries, rows, strict=True):
        filled[: len(row)] = row
    return Cells(discrete, np.where(discrete, np.cumsum(discrete) - 1, 0), boundaries)


def default_alpha(population: int, size: int) -> float:
    """``1 / (lambda N)``, the paper's recommendation; at most 1/2."""
    return min(0.5, 1.0 / (population * (size or 1)))


def correct(
    found: Cells | None, mean: chex.Array, std: chex.Array, alpha: chex.Numeric
) -> tuple[chex.Array, chex.Array]:
    """Moves the mean and widens the marginal distributions so that cells are left often enough.

    With the mean in an outer cell, so always for two cells, the mean comes as near to the boundary
    as it takes for at least ``alpha`` beyond it.  In an inner cell at least ``alpha / 2`` lies
    beyond either boundary; what is added there is taken from the rest in proportion to what each
    part has above ``alpha / 2``.  Distributions that satisfy this are returned bit for bit.

    Args:
        found: from ``cells``; ``None`` changes nothing.
        mean: ``f[D]``, the mean of the distribution in the unit cube.
        std: ``f[D]``, its marginal standard deviations as they are sampled, positive: with every
            factor that was returned before multiplied in.
        alpha: ``f[]`` in (0, 1/2].

    Returns:
        The new mean ``f[D]`` and the factor ``f[D]`` by which to multiply each marginal standard
        deviation, the paper's diagonal matrix A.  The factor is 1 for floats.

    Example:
        >>> found = cells([np.array([]), np.array([0.5]), np.array([0.25, 0.75])])
        >>> means, variances = jnp.array([0.1, 0.1, 0.5]), jnp.full(3, 0.01)
        >>> mean, factor = jax.jit(lambda m, v: correct(found, m, v, 0.05))(means, variances)
        >>> [round(float(x), 3) for x in mean], [round(float(x), 1) for x in factor]
        ([0.1, 0.484, 0.5], [1.0, 1.0, 12.8])
    """
    if found is None:
        return mean, jnp.ones_like(std)
    chosen = np.flatnonzero(found.discrete)
    m, s = mean[chosen], jnp.maximum(std[chosen], jnp.finfo(std.dtype).tiny)
    lower, upper = neighbours(jnp.asarray(found.boundaries, m.dtype), m)
    inner = jnp.isfinite(lower) & jnp.isfinite(upper)

    nearest = jnp.where(jnp.isfinite(lower), lower, upper)
    reach = -ndtri(jnp.asarray(alpha, m.dtype)) * s  # = sqrt(chi2_ppf(1 - 2 alpha)) s
    away = m - nearest
    outer_mean = jnp.where(jnp.abs(away) > reach, nearest + jnp.clip(away, -reach, reach), m)

    low, up = jnp.where(inner, lower, 0.0), jnp.where(inner, upper, 1.0)
    inner_mean, inner_std = widen(low, up, m, s, alpha)

    m = jnp.where(inner, inner_mean, outer_mean)
    factor = jnp.where(inner, inner_std / s, 1.0)
    return (
        jnp.where(found.discrete, m[found.place], mean),
        jnp.where(found.discrete, factor[found.place], jnp.ones_like(std)),
    )


def neighbours(boundaries: chex.Array, point: chex.Array) -> tuple[chex.Array, chex.Array]:
    """The ends ``f[K]`` of the cell that each ``point`` ``f[K]`` lies in, infinite outermost ones.

    Args:
        boundaries: ``f[K, T]``, sorted, filled up with ``inf``.
        point: ``f[K]``.
    """
    if boundaries.shape[1] <= MOST_COMPARED:
        below = boundaries <= point[:, None]
        lower = jnp.where(below, boundaries, -jnp.inf).max(axis=1)
        return lower, jnp.where(below, jnp.inf, boundaries).min(axis=1)
    count = jax.vmap(lambda row, x: jnp.searchsorted(row, x, side="right"))(boundaries, point)
    fenced = jnp.pad(boundaries, ((0, 0), (1, 1)), constant_values=(-jnp.inf, jnp.inf))
    ends = jnp.take_along_axis(fenced, jnp.stack([count, count + 1], axis=1), axis=1)
    return ends[:, 0], ends[:, 1]


def widen(
    lower: chex.Array, upper: chex.Array, mean: chex.Array, std: chex.Array, alpha: chex.Numeric
) -> tuple[chex.Array, chex.Array]:
    """Mean and standard deviation with at least ``alpha / 2`` below ``lower`` and above ``upper``.

    All arrays are ``f[K]``, with ``lower <= mean < upper``.
    """
    least = 0.5 * jnp.asarray(alpha, mean.dtype)
    p_low, p_up = ndtr((lower - mean) / std), ndtr((mean - upper) / std)
    raised_low, raised_up = jnp.maximum(p_low, least), jnp.maximum(p_up, least)
    # The parts no longer sum to one; the excess is taken from what each has above the least.
    excess = (raised_low - p_low) + (raised_up - p_up)
    share = excess / (1.0 + excess - 3.0 * least)
    # A quantile as a distance from the mean in standard deviations: -ndtri(p), never negative.
    q_low = -ndtri(raised_low - share * (raised_low - least))
    q_up = -ndtri(raised_up - share * (raised_up - least))
    # Two linear equations: mean - q_low std = lower and mean + q_up std = upper.
    total = q_low + q_up
    changed = excess > 0
    total = jnp.where(changed, total, 1.0)
    return (
        jnp.where(changed, (lower * q_up + upper * q_low) / total, mean),
        jnp.where(changed, (upper - lower) / total, std),
    )
