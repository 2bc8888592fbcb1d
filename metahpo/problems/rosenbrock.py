"""Curved valleys: Rosenbrock's function, of random steepness."""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, TaskFamily


class Valley(NamedTuple):
    """One function: ``steepness`` f[], ``minimum`` f[], and the ``start`` f[n]."""

    steepness: chex.Array
    minimum: chex.Array
    start: chex.Array


def rosenbrock(
    dimension: int = 2,
    steepness: tuple[float, float] = (1.0, 100.0),
    *,
    log: bool = False,
) -> TaskFamily:
    """``sum_i b (x_{i+1} - x_i^2)^2 + (a - x_i)^2`` over pairs of neighbours (Rosenbrock 1960).

    The steepness ``b`` is log-uniform, ``a`` uniform in [0.5, 1.5], and the entries of the start
    are uniform in [-2, 2].  ``f`` is zero where the first entry is ``a`` and every other one the
    square of that before it, in two dimensions at ``(a, a^2)``; in more, for other ``a`` than 1,
    the minimum lies nearby and is above zero.

    Args:
        dimension: ``n``, at least 2.
        steepness: range of ``b``, positive.
        log: the query loss is ``log10(f + 1e-8)``.

    Returns:
        A TaskFamily with params ``f[n]``.

    Raises:
        ValueError: for less than two dimensions, or a range that is not ``0 < low <= high``.

    Example:
        >>> import metahpo as mh
        >>> family = mh.problems.rosenbrock()
        >>> task = family.sample(jax.random.key(0))
        >>> valley = jnp.stack([task.minimum, task.minimum**2])
        >>> float(family.loss(valley, task, "support"))
        0.0
    """
    dimension = checks.whole("dimension", dimension, at_least=2)
    low, high = steepness
    checks.positive(steepness=low)
    if not low <= high < math.inf:
        raise ValueError(f"steepness must be 0 < low <= high, both finite, got {steepness}")

    def sample(key: Key) -> Valley:
        steep_key, minimum_key, start_key = jax.random.split(key, 3)
        dtype = jnp.result_type(float)
        logs = jax.random.uniform(steep_key, (), dtype, math.log(low), math.log(high))
        minimum = jax.random.uniform(minimum_key, (), dtype, 0.5, 1.5)
        return Valley(
            jnp.exp(logs), minimum, jax.random.uniform(start_key, (dimension,), dtype, -2.0, 2.0)
        )

    def init(key: Key, task: Valley) -> chex.Array:
        del key
        return task.start

    def loss(params: chex.Array, task: Valley, split: str) -> chex.Array:
        before, after = params[:-1], params[1:]
        value = jnp.sum(task.steepness * (after - before**2) ** 2 + (task.minimum - before) ** 2)
        return jnp.log10(value + 1e-8) if log and split == "query" else value

    return TaskFamily(sample, init, loss)
