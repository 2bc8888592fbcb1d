"""When a run of CMA-ES has nothing left to find.

The criteria of Hansen, Benchmarking a BI-population CMA-ES on the BBOB-2009 function testbed
(GECCO 2009), and of appendix B.3 of the tutorial (arXiv 1604.00772v2), as data.
"""

from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from metahpo.base import StopReason
from metahpo.strategies.cma.update import Form, Normal, deviations

TOLERANCE = 1e-12  # of losses, and of lengths in units of the first step size
SHORTEST_WINDOW = 10  # generations over which the losses must be the same
MOST_FLAT = 3  # flat generations in succession, as in pycma


class Progress(NamedTuple):
    """What the criteria remember of a run's losses.

    Attributes:
        best: ``f[H]``, the best losses of the last generations, in a ring.
        flat: ``i32[]``, how many generations in succession were flat.
        record: ``f[2]``, the lowest best and the lowest median loss of any generation.
        recorded: ``i32[]``, the generation that set the last record.
        spread: ``f[]``, the largest difference of a generation's best and median loss.
        failed: ``bool[]``, whether the covariance had no factor when it was last asked for.
    """

    best: chex.Array
    flat: chex.Array
    record: chex.Array
    recorded: chex.Array
    spread: chex.Array
    failed: chex.Array


def window(population: Any, size: int) -> Any:
    """Generations over which the best losses are compared; the population may be traced."""
    return SHORTEST_WINDOW + -(-30 * size // population)


def begin(population: int, size: int, dtype: Any) -> Progress:
    """No progress yet, with room for the histories of at least ``population`` samples."""
    infinite = jnp.full(window(population, size), jnp.inf, dtype)
    return Progress(
        infinite,
        jnp.zeros((), jnp.int32),
        jnp.full(2, jnp.inf, dtype),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), dtype),
        jnp.zeros((), bool),
    )


def noted(
    progress: Progress,
    generation: chex.Array,
    loss: chex.Array,
    ranks: chex.Array,
    population: Any,
) -> Progress:
    """The progress after a generation.

    Args:
        progress: before it.
        generation: ``i32[]``, from 0.
        loss: ``f[S]``.
        ranks: ``i32[S]`` of the losses.
        population: how many of the slots count; may be traced.
    """

    def ranked(place: Any) -> chex.Array:
        return jnp.where(ranks == place, loss, -jnp.inf).max()

    best, median = ranked(0), ranked(population // 2)
    flat = best == ranked(3 * population // 4)
    both = jnp.stack([best, median])
    history = progress.best.shape[0]
    return progress._replace(
        best=jnp.where(jnp.arange(history) == generation % history, best, progress.best),
        flat=jnp.where(flat, progress.flat + 1, 0),
        record=jnp.minimum(progress.record, both),
        recorded=jnp.where((both < progress.record).any(), generation, progress.recorded),
        spread=jnp.maximum(progress.spread, jnp.where(jnp.isfinite(median), median - best, 0)),
    )


def reason(
    form: Form,
    normal: Normal,
    progress: Progress,
    sigma0: chex.Array,
    population: Any,
    size: int,
    settled: chex.Array | None = None,
) -> chex.Array:
    """``i32[]``, a ``StopReason``.

    ``TOLERANCE``: the best losses of the last 10 + 30 D / population generations differ by less
    than 1e-12, and than 1e-12 of the largest spread of a generation's losses, so that small units
    change nothing; or the best three quarters of a generation had one and the same loss four times
    in succession, as in pycma (the publication's quarter, in a third of the last D generations,
    ends searches of few dimensions after the first, where losses come in steps); or the
    distribution and its path are shorter than 1e-12 of the first step size.  ``CONDITION``: the
    covariance has no factor to the precision of the floats, or its condition number is above 1e14
    (1e10 in float32).  ``COLLAPSE``: a step of 0.2 standard deviations leaves a coordinate of the
    mean as it is, or a step of 0.1 along an axis the whole mean.  ``STAGNATION``: for 120 + 30 D /
    population generations and a fifth of all generations, neither the best nor the median loss of a
    generation was the lowest so far.  (The publications compare medians over the ends of that
    window instead, which would have to be stored.)

    With choices, whose values repeat, equal losses within a generation end no run; and what the
    normal distribution has become ends it only when they have settled, that is, all values but one
    of each are at the margin.

    Args:
        form: what is learned of the covariance.
        normal: the distribution.
        progress: what is remembered of the losses.
        sigma0: ``f[]``, the first step size.
        population: samples of a generation; may be traced.
        size: ``D``, coordinates of the space.
        settled: ``bool[]``, whether the choices have; ``None`` without any.
    """
    g = normal
    std = deviations(form, g)
    span, width = progress.best.shape[0], window(population, size)
    recent = (g.generation - 1 - jnp.arange(span)) % span < width
    lowest = jnp.where(recent, progress.best, jnp.inf).min()
    highest = jnp.where(recent, progress.best, -jnp.inf).max()
    least = TOLERANCE * jnp.minimum(progress.spread, 1)
    same = (highest == lowest) | (highest - lowest < least)
    flat = progress.flat > MOST_FLAT
    small = ((std < TOLERANCE * sigma0) & (g.sigma * jnp.abs(g.path_c) < TOLERANCE * sigma0)).all()
    if settled is not None:
        settled &= g.mean.shape[0] > 0  # choices alone have no normal distribution
        flat, small = jnp.zeros((), bool), small & settled
    tolerance = (same & (g.generation >= width)) | flat | small

    limit = 1e14 if g.mean.dtype == np.float64 else 1e10
    ratio = form.condition(g.covariance, g.factor)
    condition = progress.failed | ~((ratio > 0) & (ratio < limit))

    axes = 0.1 * g.sigma * form.axes(g.factor)
    collapse = (g.mean == g.mean + 0.2 * std).any() | (g.mean == g.mean + axes).all(1).any()
    if settled is not None:
        condition, collapse = condition & settled, collapse & settled

    patience = 120 + 30 * size // population + g.generation // 5
    stagnation = g.generation - progress.recorded > patience
    found = jnp.array(StopReason.RUNNING, jnp.int32)
    for holds, why in (
        (stagnation, StopReason.STAGNATION),
        (collapse, StopReason.COLLAPSE),
        (condition, StopReason.CONDITION),
        (tolerance, StopReason.TOLERANCE),
    ):
        found = jnp.where(holds, jnp.int32(why), found)
    return found
