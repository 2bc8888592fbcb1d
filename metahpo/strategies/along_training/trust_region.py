"""How far from its parent a copy may move: a trust region that follows its success.

The region is a box around the copied hyperparameters whose edge doubles after some successes in a
row and halves after some failures in a row (TuRBO: Eriksson, Pearce, Gardner, Turner & Poloczek
2019, section 3; for populations that train: BG-PBT, Wan et al. 2022, section 3).  A box that has
become too small to tell its points apart starts again, as then nothing is left to be found in it.

TuRBO counts batches, as its batches have a size.  How many members of a population copy may differ
from round to round, so here every copy is a failure by itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax.numpy as jnp

from metahpo.space import Dimension, Float, Int
from metahpo.strategies.along_training.exploit_explore import duels

LARGEST = 1.6  # edge; boxes are cut at the bounds of the cube
SMALLEST = 1e-6  # moves within it are still told apart by float32
GROWING = 3  # rounds with a success in a row
FEWEST_FAILURES = 4  # in a row, or as many as there are dimensions


class Region(NamedTuple):
    """The box of the next copies.

    Attributes:
        length: ``f[]``, its edge in the unit cube.
        successes: ``i32[]``, rounds in a row in which a copy was one.
        failures: ``i32[]``, copies in a row none of which was a success.
        restarted: ``bool[]``, whether the box had become too small, so that ``length`` is the first
            one again.
    """

    length: chex.Array
    successes: chex.Array
    failures: chex.Array
    restarted: chex.Array


def started(length: chex.Numeric, dtype: chex.ArrayDType) -> Region:
    """The first region."""
    nothing = jnp.zeros((), jnp.int32)
    return Region(jnp.asarray(length, dtype), nothing, nothing, jnp.zeros((), bool))


def updated(
    region: Region,
    loss: chex.Array,
    parent: chex.Array,
    dims: Sequence[Dimension],
    first: chex.Numeric,
) -> Region:
    """The region after a round.

    A copy succeeds if it beats its parent, which trained on from the same state with the
    hyperparameters that were copied.  Rounds in which no copy can be compared change nothing.

    Args:
        region: of the round.
        loss: ``f[P]``, ``inf`` for failures.
        parent: ``i32[P]``, whom every member trained on from, negative if from nobody.
        dims: that are searched.
        first: the edge of a region that starts again.
    """
    compared, won = duels(loss, parent)
    count, success = compared.sum(dtype=jnp.int32), won.any()
    held = count == 0
    successes = jnp.where(held, region.successes, jnp.where(success, region.successes + 1, 0))
    failures = jnp.where(held, region.failures, jnp.where(success, 0, region.failures + count))
    grows, shrinks = successes >= GROWING, failures >= max(FEWEST_FAILURES, len(dims))
    length = jnp.where(grows, jnp.minimum(2 * region.length, LARGEST), region.length)
    length = jnp.where(shrinks, length / 2, length)
    restarted = length < smallest_edge(dims)
    return Region(
        jnp.where(restarted, first, length).astype(region.length.dtype),
        jnp.where(grows, 0, successes),
        jnp.where(shrinks, 0, failures),
        restarted,
    )


def smallest_edge(dims: Sequence[Dimension]) -> float:
    """Where a box becomes too small: half of the narrowest integer's cell, almost 0 with a float.

    A choice, which has no width, adds nothing.
    """
    if any(isinstance(dim, Float) for dim in dims):
        return SMALLEST
    return min(1 / (dim.high - dim.low + 1) for dim in dims if isinstance(dim, Int)) / 2
