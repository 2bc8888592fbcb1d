"""Recommenders that weigh past tasks by how alike they are: portfolios and distributions."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp

from metahpo.base import Key, PyTree
from metahpo.transfer import portfolios
from metahpo.transfer.distribution import Distribution
from metahpo.transfer.past import Past
from metahpo.transfer.recommender import Recommender

FLOOR = 0.05  # of a standard deviation, in regret

Relate = Callable[[Key, Past], tuple[chex.Array, PyTree]]
Weigh = Callable[[PyTree, Past, chex.Array], chex.Array]
Choose = Callable[[chex.Array, chex.Array, int], chex.Array]


class Weighted(NamedTuple):
    """What such a recommender keeps.

    Attributes:
        past: what it learned from.
        state: of ``weigh``.
        surprise: ``f[T, C]``: by how many standard deviations the past tasks did worse than the
            others let expect, at the configuration expected to be the best, the second best and so
            on.
    """

    past: Past
    state: PyTree
    surprise: chex.Array


def weighted(
    name: str, relate: Relate, weigh: Weigh, choose: Choose = portfolios.greedy
) -> Recommender:
    """A recommender from weights of past tasks.

    Its distributions are conformal: the weighted mean and deviation of the past regrets, and
    around it what the past tasks showed when each was left out.  These are kept by the place of a
    configuration in the order of promise, because what is chosen for a low mean is on average worse
    than that.

    Args:
        name: of the recommender.
        relate: ``(key, past) -> (own f[T, T], state)``; the rows of ``own`` are the weights of all
            tasks at each of the tasks, made without this task and its near-duplicates.
        weigh: ``(state, past, descriptor) -> f[T]``, the weights at a new task, which sum to 1.
        choose: ``(regret f[T, C], weights f[T], k) -> i32[k]``.
    """

    def learn(key: Key, past: Past) -> Weighted:
        own, state = relate(key, past)
        return Weighted(past, state, surprises(past.regret, *_moments(past.regret, own)))

    def suggest(memory: Weighted, descriptor: chex.Array, k: int) -> chex.Array:
        weights = weigh(memory.state, memory.past, descriptor)
        return choose(memory.past.regret, weights, k)

    def outcomes(memory: Weighted, descriptor: chex.Array) -> Distribution:
        weights = weigh(memory.state, memory.past, descriptor)
        mean, std = _moments(memory.past.regret, weights[None])
        return expected(mean[0], std[0], memory.surprise, memory.past.there)

    return Recommender(name, learn, suggest, outcomes)


def uniform(past: Past) -> chex.Array:
    """``f[T]``: equal weights of the tasks that are there."""
    return past.there / jnp.maximum(past.there.sum(), 1)


def others(past: Past) -> chex.Array:
    """``bool[T, T]``: which tasks are there and no near-duplicates of one another."""
    return past.there & (past.group[:, None] != past.group)


def normalised(weights: chex.Array) -> chex.Array:
    """Rows that sum to 1, as long as they are not zero."""
    total = weights.sum(-1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1.0)


def surprises(regret: chex.Array, mean: chex.Array, std: chex.Array) -> chex.Array:
    """``f[T, C]``: by how many deviations regrets exceed what was expected, in order of promise."""
    order = jnp.argsort(mean, axis=1)
    return jnp.take_along_axis((regret - mean) / std, order, axis=1)


def expected(
    mean: chex.Array, std: chex.Array, surprise: chex.Array, there: chex.Array
) -> Distribution:
    """What is expected of a task, ``f[C]`` each, and how far past tasks were off at each place."""
    place = jnp.argsort(jnp.argsort(mean))
    values = mean[:, None] + std[:, None] * surprise.T[place]
    return Distribution(jnp.clip(values, 0.0, 1.0), there)


def _moments(regret: chex.Array, weights: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Means and deviations ``f[N, C]`` under the weights ``f[N, T]``."""
    mean = weights @ regret
    variance = jnp.maximum(weights @ regret**2 - mean**2, 0.0)
    return mean, jnp.sqrt(variance) + FLOOR
