"""What the strategies of differential evolution share.

Every random number comes as a draw in [0, 1) that the caller took from one flat array, because on
a CPU the random words cost more than all the rest of a generation.
"""

from collections.abc import Iterable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import draws
from metahpo import space as spaces
from metahpo.base import Key, StopReason
from metahpo.space import Space

SMALLEST_POPULATION = 4  # a target and three others


class Parameters(NamedTuple):
    """What a proposal notes of its trials.

    Attributes:
        weight: ``f[P]``, F.
        rate: ``f[P]``, CR.
        first: ``bool[]``, whether these are no trials but the first population.
    """

    weight: chex.Array
    rate: chex.Array
    first: chex.Array


def once(*rows: chex.Array) -> chex.Array:
    """The rows, stacked and computed once.

    XLA would otherwise fuse a member's numbers into the moves of all its coordinates, and compute
    them again for each; a concatenation behind a barrier it leaves alone.
    """
    return jax.lax.optimization_barrier(jnp.stack(rows))


def random_draws(key: Key, count: int, population: int, size: int) -> tuple[chex.Array, chex.Array]:
    """Uniform draws: ``f[count, P]`` for the members, and ``f[P, D]`` of 16 bits for crossover.

    Two of the coarse ones come from one random word.  They lie in the middle of their 65,536 cells,
    so a rate of 0 or 1 is exact.
    """
    cells = population * size
    fine, coarse = count * population, (cells + 1) // 2
    words = once(*draws.words(key, ((fine + coarse + 1) // 2,))).ravel()
    pairs = words[fine : fine + coarse]
    halves = jnp.concatenate([pairs >> 16, pairs & 0xFFFF])
    middle = (halves[:cells].astype(jnp.result_type(float)) + 0.5) * 2.0**-16
    members = draws.unit_interval(words[:fine])
    return members.reshape(count, population), middle.reshape(population, size)


def index(draw: chex.Array, count: chex.Numeric) -> chex.Array:
    """``i32``: the draw as a whole number of ``0 ... count - 1``, all equally likely."""
    return jnp.minimum((draw * count).astype(jnp.int32), count - 1)


def distinct_others(draw: chex.Array, sizes: Iterable[chex.Numeric]) -> chex.Array:
    """``i32[count, P]``: for every member indices that differ from its own and from each other.

    Uniform over all such choices: the j-th is drawn from ``sizes[j]`` numbers less those that are
    taken, and then moved past the taken ones, the smallest first.

    Args:
        draw: ``f[count, P]``.
        sizes: ``count`` numbers that never fall; the j-th index is below ``sizes[j]``.
    """
    taken = [jnp.arange(draw.shape[1], dtype=jnp.int32)]  # in rising order
    chosen = []
    for row, size in zip(draw, sizes, strict=True):
        number = index(row, size - len(taken))
        for other in taken:
            number = number + (number >= other)
        chosen.append(number)
        rising = []
        for other in taken:
            rising.append(jnp.minimum(number, other))
            number = jnp.maximum(number, other)
        taken = [*rising, number]
    return once(*chosen)


def best_others(
    draw: chex.Array, loss: chex.Array, most: int, count: chex.Numeric | None = None
) -> chex.Array:
    """``i32[P]``: for every member one of the ``count <= most`` best, uniformly.

    Equal losses are ranked from a random member on, or the first ones would attract all the others
    on a plateau.  That member is drawn from what choosing among the best leaves of the first draw.
    """
    population, count = loss.shape[0], most if count is None else count
    scaled = draw * count
    first = index((scaled - jnp.floor(scaled))[0], population)
    best = jax.lax.top_k(jnp.roll(-loss, first), most)[1] - first
    chosen = jnp.minimum(scaled.astype(jnp.int32), count - 1)
    return jnp.where(best < 0, best + population, best)[chosen]


def crossover(draw: chex.Array, sure: chex.Array, rate: chex.Numeric) -> chex.Array:
    """``bool[P, D]``: which coordinates come from the mutant; ``sure`` ``i32[P]`` always does."""
    return (draw < rate) | (jnp.arange(draw.shape[1]) == sure[:, None])


def left_over(draw: chex.Array, rate: chex.Numeric) -> chex.Array:
    """A uniform draw, independent of whether ``draw < rate``, from what that did not use up."""
    below = draw < rate
    return jnp.where(below, draw, draw - rate) / jnp.where(below, rate, 1.0 - rate)


def best_count(share: float, population: int) -> int:
    """How many members count as best: two at least, for one alone would draw all to it."""
    return max(2, int(share * population + 0.5))


def bounce_back(share: chex.Array, base: chex.Array, point: chex.Array) -> chex.Array:
    """``point`` with each coordinate outside [0, 1] at a share of the way from base to bound."""
    bound = jnp.clip(point, 0.0, 1.0)
    return jnp.clip(jnp.where(point == bound, point, base + share * (bound - base)), 0.0, 1.0)


def halfway(parent: chex.Array, point: chex.Array) -> chex.Array:
    """``point`` with each coordinate outside [0, 1] midway between its parent and that bound."""
    bound = jnp.clip(point, 0.0, 1.0)
    return jnp.where(point == bound, point, 0.5 * (parent + bound))


def current_to_pbest(
    draw: chex.Array,
    coarse: chex.Array,
    unit: chex.Array,
    archive: "Archive",
    best: chex.Array,
    weight: chex.Array,
    rate: chex.Array,
    members: chex.Numeric | None = None,
) -> chex.Array:
    """Trials of current-to-pbest/1/bin with archive (Zhang & Sanderson 2009, eqs. 4, 5 and 7).

    Args:
        draw: ``f[3, P]``, for the two differing points and for the sure coordinate.
        coarse: ``f[P, D]``, for the crossover.
        unit: ``f[P, D]``, of which the first ``members`` are alive, by default all.
        archive: the second point comes from it and the living together.
        best: ``i32[P]``, the good member that each moves towards.
        weight: ``f[P]``, F.
        rate: ``f[P]``, CR.
        members: how many are alive.

    Returns:
        ``f[P, D]`` in the unit cube.
    """
    population, size = unit.shape
    members = population if members is None else members
    r1, r2 = distinct_others(draw[:2], (members, members + archive.size))
    r2 = jnp.where(r2 < members, r2, r2 + population - members)
    pool = jnp.concatenate([unit, archive.unit])
    step = (unit[best] - unit) + (unit[r1] - pool[r2])
    mutant = halfway(unit, unit + weight[:, None] * step)
    return jnp.where(crossover(coarse, index(draw[2], size), rate[:, None]), mutant, unit)


def not_worse(
    loss: chex.Array, before: chex.Array, members: chex.Numeric | None = None
) -> chex.Array:
    """``bool[P]``: who accepts its trial: ties pass, unless all ``members`` have the same loss.

    Accepting ties helps across the steps of integers and choices.  Where nothing at all is known,
    for example while all losses are infinite, it would only pull the population together.
    """
    known = before
    if members is not None:
        known = jnp.where(jnp.arange(before.shape[0]) < members, before, before[0])
    level = known.min() == known.max()
    return (loss < before) | ((loss == before) & ~level)


class Archive(NamedTuple):
    """Members that were replaced by better ones; only the first ``size`` rows count."""

    unit: chex.Array  # f[A, D]
    size: chex.Array  # i32[]


def archive_size(rate: float, population: int) -> int:
    """Rows of an archive of ``rate`` times the population.

    Raises:
        ValueError: if ``rate`` is negative.
    """
    if rate < 0:
        raise ValueError(f"archive_rate must not be negative, got {rate}")
    return int(rate * population + 0.5)


def empty_archive(rows: int, unit: chex.Array) -> Archive:
    """An archive with room for ``rows`` points like those of ``unit``."""
    return Archive(jnp.zeros((rows, unit.shape[1]), unit.dtype), jnp.zeros((), jnp.int32))


def archived(
    draw: chex.Array,
    archive: Archive,
    parents: chex.Array,
    success: chex.Array,
    capacity: chex.Numeric | None = None,
) -> Archive:
    """Adds the parents of successful trials one by one; once full, each replaces a random row.

    Later ones may replace earlier ones of the same generation.  The last writer of every row is
    found as a maximum, because devices promise no order of writing.

    Args:
        draw: ``f[P]``.
        archive: with ``A`` rows.
        parents: ``f[P, D]``.
        success: ``bool[P]``.
        capacity: at most ``A``, which is the default.
    """
    population, rows = success.shape[0], archive.unit.shape[0]
    if rows == 0:
        return archive
    capacity = rows if capacity is None else capacity
    free = archive.size + jnp.cumsum(success, dtype=jnp.int32) - success
    slot = jnp.where(free < capacity, free, index(draw, capacity))
    slot = jnp.where(success, slot, rows)  # beyond the end: dropped
    member = jnp.arange(population, dtype=jnp.int32)
    writer = jnp.full(rows, -1, jnp.int32).at[slot].max(member)
    unit = jnp.where((writer >= 0)[:, None], parents[writer], archive.unit)
    size = archive.size + success.sum(dtype=jnp.int32)
    return Archive(unit, jnp.minimum(size, capacity))


def collapsed(
    unit: chex.Array, archive: Archive | None = None, space: Space | None = None
) -> chex.Array:
    """``i32[]``, a ``StopReason``: whether all points are equal up to the float type's rounding.

    Differences then move nobody any more.  Of points in a ``space`` only what is active counts.
    """
    if space is not None:
        unit = spaces.canonical(space, unit)
        if archive is not None:
            archive = archive._replace(unit=spaces.canonical(space, archive.unit))
    low, high = unit.min(axis=0), unit.max(axis=0)
    if archive is not None and archive.unit.shape[0]:
        known = (jnp.arange(archive.unit.shape[0]) < archive.size)[:, None]
        low = jnp.minimum(low, jnp.where(known, archive.unit, jnp.inf).min(axis=0))
        high = jnp.maximum(high, jnp.where(known, archive.unit, -jnp.inf).max(axis=0))
    flat = (high - low <= jnp.finfo(unit.dtype).eps).all()
    return jnp.where(flat, StopReason.COLLAPSE, StopReason.RUNNING).astype(jnp.int32)
