"""How CMA-ES with restarts chooses the population and the step size of its next run."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key


class Schedule(NamedTuple):
    """The run that goes on, and what the runs before have used.

    Attributes:
        population: ``i32[]``, samples of its generations.
        sigma: ``f[]``, its first step size.
        allowed: ``i32[]``, evaluations that it may use.
        used: ``i32[]``, evaluations that it has used.
        small: ``bool[]``, whether its evaluations count for BIPOP's small populations.
        doublings: ``i32[]``, how often the large population has doubled.
        spent: ``i32[2]``, evaluations of finished runs with small and with large populations.
        restarts: ``i32[]``, finished runs.
    """

    population: chex.Array
    sigma: chex.Array
    allowed: chex.Array
    used: chex.Array
    small: chex.Array
    doublings: chex.Array
    spent: chex.Array
    restarts: chex.Array


Next: TypeAlias = Callable[[Key, Schedule, chex.Array], Schedule]
"""``(key, schedule, sigma0 f[]) -> schedule`` of the next run."""


def longest(population: chex.Array, size: int) -> chex.Array:
    """``i32[]``: evaluations of 100 + 50 (D + 3)^2 / sqrt(population) generations."""
    generations = 100 + jnp.floor(50 * (size + 3) ** 2 / jnp.sqrt(population))
    return population * generations.astype(jnp.int32)


def first(population: int, size: int, sigma: chex.Array) -> Schedule:
    """The first run."""
    zero = jnp.zeros((), jnp.int32)
    count = jnp.asarray(population, jnp.int32)
    return Schedule(
        count,
        sigma,
        longest(count, size),
        used=zero,
        small=jnp.ones((), bool),
        doublings=zero,
        spent=jnp.zeros(2, jnp.int32),
        restarts=zero,
    )


def ipop(smallest: int, doublings: int, size: int) -> Next:
    """Every run has twice the population of the one before (Auger & Hansen, CEC 2005).

    Args:
        smallest: the first population.
        doublings: after so many the population stays.
        size: ``D``.
    """

    def following(key: Key, schedule: Schedule, sigma0: chex.Array) -> Schedule:
        del key
        times = jnp.minimum(schedule.doublings + 1, doublings)
        population = smallest * 2**times
        return _begun(schedule, population, sigma0, jnp.zeros((), bool), times, size)

    return following


def bipop(smallest: int, doublings: int, size: int) -> Next:
    """Large populations, which double, take turns with small ones (Hansen, GECCO 2009).

    A run is of the kind that has used fewer evaluations so far.  With large populations of ``2^k``
    times the first one, the small ones are ``(2^k / 2)^(u^2)`` times the first one and begin with
    ``10^(-2 v)`` of the first step size, for uniform ``u`` and ``v``; each may use half of the
    evaluations of all large ones.  As in Hansen's own program, the first run counts as small.
    The arguments are those of ``ipop``.
    """

    def following(key: Key, schedule: Schedule, sigma0: chex.Array) -> Schedule:
        spent = schedule.spent + schedule.used * jnp.stack([schedule.small, ~schedule.small])
        small = spent[0] < spent[1]
        times = jnp.minimum(schedule.doublings + jnp.where(small, 0, 1), doublings)
        u, v = jax.random.uniform(key, (2,), sigma0.dtype)
        ratio = 2.0 ** (times.astype(sigma0.dtype) - 1)
        population = jnp.floor(smallest * ratio ** (u**2)).astype(jnp.int32)
        population = jnp.where(small, population, smallest * 2**times)
        sigma = jnp.where(small, sigma0 * 10.0 ** (-2 * v), sigma0)
        begun = _begun(schedule, population, sigma, small, times, size)
        allowed = jnp.where(small, jnp.minimum(begun.allowed, spent[1] // 2), begun.allowed)
        return begun._replace(allowed=allowed)

    return following


def _begun(
    schedule: Schedule,
    population: chex.Array,
    sigma: chex.Array,
    small: chex.Array,
    doublings: chex.Array,
    size: int,
) -> Schedule:
    spent = schedule.spent + schedule.used * jnp.stack([schedule.small, ~schedule.small])
    return Schedule(
        population,
        sigma,
        longest(population, size),
        jnp.zeros((), jnp.int32),
        small,
        doublings,
        spent,
        schedule.restarts + 1,
    )


def buckets(doublings: int) -> list[int]:
    """Numbers of rounds, each eight times the one before, up to ``2^doublings``.

    A generation is updated in the smallest bucket that holds it, so that the time of small
    populations does not depend on the largest one.
    """
    return [8**i for i in range((doublings + 2) // 3)] + [2**doublings]
