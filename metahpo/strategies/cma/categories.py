"""Unordered choices in CMA-ES: a categorical distribution for each, beside the normal one.

A choice has no neighbours, so a mean that moves says nothing of it.  CatCMA (Hamano, Saito, Nomura,
Uchida & Shirakawa, GECCO 2024, arXiv 2405.09962), cited below as (C), samples every choice from
probabilities of its own and moves these along the natural gradient, with the weights of the
covariance update.  The length of a step adapts to its signal-to-noise ratio (Akimoto et al.,
Adaptive stochastic natural gradient method, ICML 2019, arXiv 1905.08537), and no probability falls
below a margin.  That margin is the one of CatCMA with Margin (Hamano et al., arXiv 2504.07884),
which counts the integers, too.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import space as spaces
from metahpo.base import Key
from metahpo.space import Choice, Space

Row = TypeVar("Row")

ALL_AT_THEIR_BEST = 0.73  # the share of samples in which the margin changes nothing (C)
SIGNAL_TO_NOISE = 1.5  # above it steps become longer (C)


class Choices(NamedTuple):
    """Which coordinates are choices among ``V`` or fewer values; static.

    Attributes:
        columns: ``int[C]``, the choices.
        others: ``int[N]``, the floats and integers, which the normal distribution has.
        counts: ``int[C]``, how many values there are.
        least: ``f64[C]``, the margin of each probability.
    """

    columns: np.ndarray
    others: np.ndarray
    counts: np.ndarray
    least: np.ndarray

    @property
    def size(self) -> int:
        """``C``."""
        return len(self.columns)

    @property
    def exists(self) -> np.ndarray:
        """``bool[C, V]``: which values a choice has; it has the first ones."""
        return np.arange(self.counts.max()) < self.counts[:, None]

    @property
    def degrees(self) -> int:
        """How many probabilities are free."""
        return int((self.counts - 1).sum())


class Categorical(NamedTuple):
    """The distributions of all choices, and what adapts the length of their steps.

    Attributes:
        probability: ``f[C, V]``, 0 for values that a choice does not have.
        path: ``f[C, V - 1]``, the path of the standardised steps.
        expected: ``f[]``, the squared length that the path has if the steps are but noise.
        slowness: ``f[]``, the inverse of a step's length.
    """

    probability: chex.Array
    path: chex.Array
    expected: chex.Array
    slowness: chex.Array


def choices(space: Space) -> Choices | None:
    """The choices of a space; ``None`` without any, so that nobody pays for them.

    A choice of one value is none.
    """
    dims = list(spaces.dimensions(space).values())
    among = np.array([len(dim.values) if isinstance(dim, Choice) else 1 for dim in dims])
    columns, others = np.flatnonzero(among > 1), np.flatnonzero(among == 1)
    if not len(columns):
        return None
    discrete = sum(len(row) > 0 for row in spaces.thresholds(space))
    counts = among[columns]
    least = (1 - ALL_AT_THEIR_BEST ** (1 / discrete)) / (counts - 1)
    return Choices(columns, others, counts, least)


def start(found: Choices | None, dtype: jnp.dtype) -> Categorical | None:
    """All values equally probable."""
    if found is None:
        return None
    count, most = found.exists.shape
    return Categorical(
        jnp.asarray(found.exists / found.counts[:, None], dtype),
        jnp.zeros((count, most - 1), dtype),
        jnp.zeros((), dtype),
        jnp.ones((), dtype),
    )


def keys(key: Key, found: Choices | None) -> tuple[Key, Key]:
    """For the normal numbers and for the choices; without choices it is all for the former."""
    if found is None:
        return key, key
    first, second = jax.random.split(key)
    return first, second


def sample(
    key: Key, found: Choices | None, categorical: Categorical | None, population: int
) -> chex.Array | None:
    """``i32[P, C]``, the numbers of the values of a generation."""
    if found is None or categorical is None:
        return None
    number = jax.random.uniform(key, (population, found.size, 1), categorical.path.dtype)
    # The last value gets what rounding leaves over.
    passed = (number >= jnp.cumsum(categorical.probability, axis=1)).sum(2, dtype=jnp.int32)
    return jnp.minimum(passed, jnp.asarray(found.counts - 1, jnp.int32))


def others(found: Choices | None, unit: chex.Array) -> chex.Array:
    """``f[..., N]``: the floats and integers of points ``f[..., D]``."""
    return unit if found is None else unit[..., found.others]


def without(found: Choices | None, rows: Sequence[Row]) -> list[Row]:
    """``N`` of the ``D`` rows: those of the floats and integers."""
    return list(rows) if found is None else [rows[column] for column in found.others]


def values(found: Choices | None, unit: chex.Array) -> chex.Array | None:
    """``i32[P, C]``: the numbers of the values of points ``f[P, D]``."""
    if found is None:
        return None
    cell = (unit[:, found.columns] * found.counts).astype(jnp.int32)
    return jnp.clip(cell, 0, jnp.asarray(found.counts - 1, jnp.int32))


def joined(found: Choices | None, rest: chex.Array, value: chex.Array | None) -> chex.Array:
    """``f[P, D]``: points of ``rest`` ``f[P, N]`` and choices in the middle of their cells."""
    if found is None or value is None:
        return rest
    middle = ((value + 0.5) / found.counts).astype(rest.dtype)
    order = np.argsort(np.concatenate([found.others, found.columns]))
    return jnp.concatenate([rest, middle], axis=1)[:, order]


def updated(
    found: Choices | None,
    categorical: Categorical | None,
    value: chex.Array | None,
    weights: chex.Array,
) -> Categorical | None:
    """The distributions after a generation.

    Args:
        found: the choices.
        categorical: the distributions.
        value: ``i32[S, C]``, the values of the samples.
        weights: ``f[S]``, the weights of the covariance update; only positive ones count.
    """
    if found is None or categorical is None or value is None:
        return None
    old, exists = categorical, found.exists
    p, good = old.probability, jnp.maximum(weights, 0.0)
    taken = (value[:, :, None] == np.arange(exists.shape[1])).astype(p.dtype)
    gradient = jnp.tensordot(good, taken, 1) - good.sum() * p  # the natural one

    # Its product with a root of the Fisher matrix, which has a row for every value but the last.
    last = (found.counts - 1)[:, None]
    p_last = jnp.take_along_axis(p, last, axis=1)
    missing = -jnp.take_along_axis(gradient, last, axis=1)  # the sum of the others
    root = jnp.sqrt(jnp.where(exists, p, 1.0))
    steep = gradient / root + root * missing / (p_last + jnp.sqrt(p_last))
    steep = jnp.where(exists[:, 1:], steep[:, :-1], 0.0)
    length = jnp.maximum(jnp.sqrt((steep**2).sum()), 1e-12)
    p = p + gradient / (length * old.slowness)

    longest = math.sqrt(found.degrees)  # of a step
    rate = 1 / (old.slowness * longest)
    kept, new = 1 - rate, rate * (2 - rate)
    path = kept * old.path + jnp.sqrt(new) * steep / length
    expected = kept**2 * old.expected + new
    slowness = old.slowness * jnp.exp(rate * (expected - (path**2).sum() / SIGNAL_TO_NOISE))
    # The publication has no limit; but a rate above 1 would turn the path round.
    slowness = jnp.maximum(slowness, 1 / longest)
    return Categorical(_with_margin(found, p), path, expected, slowness)


def _with_margin(found: Choices, p: chex.Array) -> chex.Array:
    """Probabilities that sum to one, none below the margin."""
    least = jnp.asarray(found.least[:, None], p.dtype)
    above = jnp.where(found.exists, jnp.maximum(p - least, 0.0), 0.0)
    free = 1 - found.least * found.counts
    share = jnp.asarray(free[:, None], p.dtype) / above.sum(1, keepdims=True)
    return jnp.where(found.exists, least + share * above, 0.0)


def settled(found: Choices | None, categorical: Categorical | None) -> chex.Array | None:
    """``bool[]``: whether every choice has one value alone above the margin."""
    if found is None or categorical is None:
        return None
    rest = 1 - categorical.probability.max(1)
    return (rest <= 1.001 * found.least * (found.counts - 1)).all()
