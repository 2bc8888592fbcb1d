"""How differential evolution learns its parameters from the trials that succeeded."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo.strategies.de.trials import index, once

SPREAD = 0.1  # of the normal and of the Cauchy distribution of the parameters, in all sources


def cauchy(draw: chex.Array, location: chex.Array) -> chex.Array:
    """Weights F from a Cauchy distribution, drawn anew until positive, at most 1.

    The inverse of the distribution function restricted to positive values does that in one go.
    Quantiles above 1 are not computed, so the tangent stays tame.
    """
    low, high = jnp.arctan(-location / SPREAD), jnp.arctan((1.0 - location) / SPREAD)
    angle = low + draw * (0.5 * jnp.pi - low)
    weight = location + SPREAD * jnp.tan(jnp.minimum(angle, high))
    weight = jnp.where(angle < high, jnp.minimum(weight, 1.0), 1.0)
    return jnp.maximum(weight, jnp.finfo(draw.dtype).eps)


def normal(draw: chex.Array, location: chex.Array) -> chex.Array:
    """Crossover rates CR from a normal distribution, clipped to [0, 1]."""
    deviation = 2.0**0.5 * jax.lax.erf_inv(2.0 * draw - 1.0)
    return jnp.clip(location + SPREAD * deviation, 0.0, 1.0)


class Memory(NamedTuple):
    """Means of the parameters that led to successes, in a ring."""

    weight: chex.Array  # f[H]
    rate: chex.Array  # f[H], -1 for the terminal value
    next: chex.Array  # i32[]


def first_memory(size: int, dtype: jnp.dtype) -> Memory:
    """A memory whose entries are all 1/2."""
    half = jnp.full(size, 0.5, dtype)
    return Memory(half, half, jnp.zeros((), jnp.int32))


def recalled(draw: chex.Array, memory: Memory) -> chex.Array:
    """``f[2, P]``: a weight and a rate for every trial, around a random entry of the memory.

    Args:
        draw: ``f[3, P]``.
        memory: of which the terminal value gives the rate 0.
    """
    entry = index(draw[0], memory.weight.shape[0])
    rate = memory.rate[entry]
    rate = jnp.where(rate < 0, 0.0, normal(draw[1], rate))
    return once(cauchy(draw[2], memory.weight[entry]), rate)


def remembered(memory: Memory, weight: chex.Array, rate: chex.Array, success: chex.Array) -> Memory:
    """Writes new means to the next place, if there was any success."""
    slots = memory.weight.shape[0]
    any_success = success.any()
    here = (jnp.arange(slots) == memory.next) & any_success
    return Memory(
        jnp.where(here, weight, memory.weight),
        jnp.where(here, rate, memory.rate),
        (memory.next + any_success) % slots,
    )


def improvements(success: chex.Array, before: chex.Array, after: chex.Array) -> chex.Array:
    """``f[P]``: what each success gained, between 0 and 1; zero for the others.

    Differences are taken relative to the largest, so that they neither overflow nor vanish, and a
    loss that was infinite counts like the largest finite gain.
    """
    gain = jnp.where(success, before - after, 0.0)
    largest = jnp.where(jnp.isfinite(gain), gain, 0.0).max()
    share = jnp.where(
        jnp.isfinite(gain) & (largest > 0), gain / jnp.where(largest > 0, largest, 1.0), 1.0
    )
    return jnp.where(success, share, 0.0)


def mean(values: chex.Array, weights: chex.Array) -> chex.Array:
    """The weighted arithmetic mean; 0 if no weight is positive."""
    total = weights.sum()
    return (weights * values).sum() / jnp.where(total > 0, total, 1.0)


def lehmer_mean(values: chex.Array, weights: chex.Array) -> chex.Array:
    """The weighted Lehmer mean: sum of squares over sum; 0 if both are 0."""
    return mean(values, weights * values)
