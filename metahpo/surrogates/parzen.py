"""Parzen estimators: densities on the unit cube with a kernel at every observation.

A kernel is a product over the dimensions: a Gaussian that is truncated to [0, 1] for a float, its
mass in every cell for an integer, and probabilities for a choice.  One more kernel, the prior, is
about as wide as the cube.  A slot that holds no observation is masked: its kernel has no weight, so
shapes never change.  In coordinates that an observation does not have, those of a branch that it
did not choose, its kernel is the prior's; and what a point does not have plays no part in its
density.  All numbers are those of Optuna 5 (``_ParzenEstimator``; Watanabe 2023,
section 3.3), but for floats the density is per unit of the cube and not of the value.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, log_ndtr

from metahpo import cube
from metahpo.base import Key
from metahpo.space import MOST_CELLS, Choice, Dimension, Int

RECENT = 25  # observations of full weight; older ones count the less, the older they are
NARROWEST = 100.0  # the narrowest kernel is one in so many of the cube's width
PRIOR = 1.0  # weight of the prior, in observations
LOG_ROOT = math.log(2 * math.pi) / 2
NARROW = 1e-2  # standard deviations


class Kernels(NamedTuple):
    """An estimator: the kernels of ``N`` slots, and the prior in the end.

    Attributes:
        log_weight: ``f[N + 1]``, of a mixture; ``-inf`` for an empty slot.
        mean: ``f[N + 1, D]``, points of the cube, within a cell its middle.
        std: ``f[N + 1, D]``, of the Gaussians; unused for choices.
        own: ``bool[N + 1, D]``, which coordinates were observed.
        count: ``f[D]``, kernels in use in a coordinate, with the prior.
    """

    log_weight: chex.Array
    mean: chex.Array
    std: chex.Array
    own: chex.Array
    count: chex.Array


def fitted(
    dims: Sequence[Dimension],
    unit: chex.Array,
    mask: chex.Array,
    active: chex.Array | None = None,
) -> Kernels:
    """The estimator of some observations.

    Args:
        dims: the ``D`` dimensions of the cube, as ``space.dimensions`` has them.
        unit: ``f[N, D]``, the oldest first.
        mask: ``bool[N]``, which slots hold an observation.
        active: ``bool[N, D]``, which coordinates each has; all without it.
    """
    known = jnp.broadcast_to(mask[:, None], unit.shape)
    known = known if active is None else known & active
    unit = jnp.where(known, centred(dims, jnp.where(known, unit, 0.5)), 0.5)
    number = mask.sum(dtype=unit.dtype)
    weight = jnp.append(jnp.where(mask, _weights(mask, number), 0.0), PRIOR)
    prior = jnp.ones((1, len(dims)), unit.dtype)
    mean = jnp.concatenate([unit, 0.5 * prior])
    std = jnp.concatenate([jnp.where(known, _widths(unit, known), 1.0), prior])
    own = jnp.concatenate([known, prior == 0])
    count = known.sum(axis=0, dtype=unit.dtype) + 1
    return Kernels(jnp.log(weight / weight.sum()), mean, std, own, count)


def centred(dims: Sequence[Dimension], unit: chex.Array) -> chex.Array:
    """``f[N, D]``: integers and choices at the middle of their cell."""
    for dim, columns in cube.grouped(dims).items():
        if isinstance(dim, Choice) or _has_cells(dim):
            middle = dim.encode(dim.decode(unit[:, columns]))
            unit = unit.at[:, columns].set(middle.astype(unit.dtype))
    return unit


def _has_cells(dim: Dimension) -> bool:
    """An integer of very many values is as good as continuous."""
    return isinstance(dim, Int) and dim.high - dim.low < MOST_CELLS


def _weights(mask: chex.Array, number: chex.Array) -> chex.Array:
    """``f[N]``: 1 for recent observations, less for older ones, ``1 / number`` for the oldest."""
    rank = jnp.cumsum(mask) - 1
    old = number - RECENT
    ramp = 1 / number + (1 - 1 / number) * rank / jnp.maximum(old - 1, 1)
    return jnp.where(rank < old, ramp, 1.0)


def _widths(unit: chex.Array, known: chex.Array) -> chex.Array:
    """``f[N, D]``: how far the farther neighbour in each dimension is; of one alone, the bound."""
    slots, number = len(unit), known.sum(axis=0)
    order = jnp.argsort(jnp.where(known, unit, jnp.inf), axis=0)
    at = jnp.take_along_axis(unit, order, axis=0)
    gap = at[1:] - at[:-1]
    place = jnp.arange(slots)[:, None]
    alone = number == 1
    below = jnp.where(place > 0, jnp.pad(gap, ((1, 0), (0, 0))), jnp.where(alone, at, 0.0))
    above = jnp.where(
        place < number - 1, jnp.pad(gap, ((0, 1), (0, 0))), jnp.where(alone, 1.0 - at, 0.0)
    )
    sizes = jnp.maximum(below, above)
    # Put back where they belong: a second sort would take as long as the first.
    widths = jnp.zeros_like(unit).at[order, np.arange(unit.shape[1])].set(sizes)
    return jnp.clip(widths, 1 / jnp.minimum(NARROWEST, number + 2.0), 1.0)


def log_density(
    dims: Sequence[Dimension],
    kernels: Kernels,
    unit: chex.Array,
    active: chex.Array | None = None,
) -> chex.Array:
    """``f[M]``: the logarithm of the density at points ``f[M, D]``.

    For integers and choices it is the probability of the value.

    Args:
        dims: the ``D`` dimensions.
        kernels: from ``fitted``.
        unit: the points.
        active: ``bool[M, D]``, which coordinates each has; all without it.
    """

    def over(terms: chex.Array, columns: Sequence[int] | np.ndarray) -> chex.Array:
        """Sums ``f[c, M, N + 1]`` over the coordinates that a point has."""
        if active is not None:
            terms = jnp.where(active[:, np.asarray(columns, int)].T[:, :, None], terms, 0.0)
        return jnp.sum(terms, axis=0)

    total = jnp.broadcast_to(kernels.log_weight, (len(unit), len(kernels.log_weight)))
    floats = [i for i, d in enumerate(dims) if not isinstance(d, Choice) and not _has_cells(d)]
    x, mean, std = _along(unit, kernels, floats)
    total -= over(jnp.square((x - mean) / std) / 2, floats)
    total -= over(jnp.log(std) + LOG_ROOT + _log_within(mean, std), floats)
    for dim, columns in cube.grouped(dims).items():
        x, mean, std = _along(unit, kernels, columns)
        if isinstance(dim, Choice):
            same = dim.decode(x) == dim.decode(mean)
            total += over(jnp.log(_probability(kernels, columns, len(dim.values), same)), columns)
        elif _has_cells(dim):
            number = dim.decode(x).astype(unit.dtype)
            ends = [dim.encode(number + half).astype(unit.dtype) for half in (-0.5, 0.5)]
            mass = _log_mass(*[(end - mean) / std for end in ends])
            total += over(mass - _log_within(mean, std), columns)
    return jax.nn.logsumexp(total, axis=1)


def _along(
    unit: chex.Array, kernels: Kernels, columns: Sequence[int] | np.ndarray
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Points ``f[c, M, 1]``, means and widths ``f[c, 1, N + 1]`` of some columns."""
    at = np.asarray(columns, int)
    mean, std = (x[:, at].T[:, None, :] for x in (kernels.mean, kernels.std))
    return unit[:, at].T[:, :, None], mean, std


def _log_within(mean: chex.Array, std: chex.Array) -> chex.Array:
    """The logarithm of a Gaussian's mass in [0, 1], where its mean is: never little."""
    root = math.sqrt(2) * std
    return jnp.log((erf((1 - mean) / root) + erf(mean / root)) / 2)


def _probability(
    kernels: Kernels, columns: np.ndarray, choices: int, same: chex.Array
) -> chex.Array:
    """``f[c, M, N + 1]``: of a value, given whether it is the kernel's own."""
    prior = PRIOR / kernels.count[columns, None, None]
    own = kernels.own[:, columns].T[:, None, :].astype(prior.dtype)
    return (prior + own * same) / (choices * prior + own)


def _log_mass(low: chex.Array, high: chex.Array) -> chex.Array:
    """The logarithm of a standard Gaussian's mass between two points, however far out."""
    # The tail below has all digits, the one above has none.
    flip = low + high > 0
    low, high = jnp.where(flip, -high, low), jnp.where(flip, -low, high)
    width = high - low
    narrow = width < NARROW
    top = log_ndtr(high)
    difference = jnp.where(narrow, 1.0, top - log_ndtr(low))
    wide = top + jnp.log(-jnp.expm1(-difference))
    # Nearly equal probabilities cancel, so here is the density in the middle, to second order.
    middle = (low + high) / 2
    size = jnp.where(narrow, width, NARROW)
    thin = jnp.log(size) - LOG_ROOT - middle**2 / 2 + (middle**2 - 1) * size**2 / 24
    return jnp.where(narrow, thin, wide)


def drawn(key: Key, dims: Sequence[Dimension], kernels: Kernels, count: int) -> chex.Array:
    """``f[count, D]``: points drawn from the estimator."""
    kernel_key, normal_key, own_key, other_key = jax.random.split(key, 4)
    kernel = jax.random.categorical(kernel_key, kernels.log_weight, shape=(count,))
    mean, std = kernels.mean[kernel], kernels.std[kernel]
    dtype = mean.dtype
    normal = jax.random.truncated_normal(normal_key, -mean / std, (1 - mean) / std, dtype=dtype)
    unit = jnp.clip(mean + std * normal, 0.0, 1.0)
    prior = PRIOR / kernels.count
    others = jax.random.uniform(other_key, mean.shape, dtype)
    sizes = np.array([len(dim.values) if isinstance(dim, Choice) else 1 for dim in dims])
    own = jax.random.uniform(own_key, mean.shape, dtype) * (1 + sizes * prior) < 1
    chosen = jnp.where(own & kernels.own[kernel], mean, others)
    is_choice = np.array([isinstance(dim, Choice) for dim in dims])
    return centred(dims, jnp.where(is_choice, chosen, unit))
