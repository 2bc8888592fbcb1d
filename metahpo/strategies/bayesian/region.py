"""TuRBO's trust region: how its edge follows success (Eriksson et al. 2019, section 3).

The region of ``along_training.trust_region`` counts copies that beat their parents instead.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp

FIRST, LARGEST, SMALLEST = 0.8, 1.6, 2.0**-7  # edges in the unit cube
GROWING = 3  # rounds in a row with a success
FEWEST_FAILURES = 4  # evaluations in a row
LEAST_GAIN = 1e-3  # of a success, in units of the lowest loss


class Region(NamedTuple):
    """The box in which the next points are looked for.

    Attributes:
        length: ``f[]``, its edge.
        best: ``f[]``, the lowest loss since the region began.
        successes: ``i32[]``, rounds in a row with a success.
        failures: ``i32[]``, evaluations in a row without one.
    """

    length: chex.Array
    best: chex.Array
    successes: chex.Array
    failures: chex.Array


def started(dtype: chex.ArrayDType) -> Region:
    """The first region, and every later one."""
    nothing = jnp.zeros((), jnp.int32)
    return Region(jnp.asarray(FIRST, dtype), jnp.asarray(jnp.inf, dtype), nothing, nothing)


def updated(
    region: Region, loss: chex.Array, new: chex.Array, chosen: chex.Array, size: int
) -> Region:
    """The region after losses were told.

    Args:
        region: before.
        loss: ``f[P]``, ``inf`` for failures.
        new: ``bool[P]``, which of them are told now.
        chosen: ``bool[P]``, which of them were chosen in the box; the first points count neither as
            successes nor as failures.
        size: coordinates, ``D``.
    """
    best = region.best
    enough = jnp.where(jnp.isfinite(best), best - LEAST_GAIN * jnp.abs(best), best)
    counted = new & chosen
    count, success = counted.sum(dtype=jnp.int32), (counted & (loss < enough)).any()
    held = count == 0
    successes = jnp.where(held, region.successes, jnp.where(success, region.successes + 1, 0))
    failures = jnp.where(held, region.failures, jnp.where(success, 0, region.failures + count))
    grows, shrinks = successes >= GROWING, failures >= max(FEWEST_FAILURES, size)
    length = jnp.where(grows, jnp.minimum(2 * region.length, LARGEST), region.length)
    return Region(
        jnp.where(shrinks, length / 2, length),
        jnp.minimum(best, jnp.where(new, loss, jnp.inf).min()),
        jnp.where(grows, 0, successes),
        jnp.where(shrinks, 0, failures),
    )
