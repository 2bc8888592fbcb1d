"""What suits past tasks on the whole, whatever the new one is like: what a mapping must beat."""

from functools import cache

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key, PyTree
from metahpo.transfer.past import Past
from metahpo.transfer.recommender import Recommender
from metahpo.transfer.weighted import normalised, others, uniform, weighted


@cache  # the same object, so that its programs are compiled once
def best_on_average() -> Recommender:
    """The configurations of the lowest mean regret over the past tasks, in that order.

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Choice(("a", "b", "c"))}
        >>> past = mh.transfer.experience(
        ...     space, [[0.0], [1.0]], [{"x": x} for x in "abc"], [[1.0, 0.0, 0.3], [0.0, 1.0, 0.3]]
        ... )
        >>> best_on_average().fit(past).suggest([0.5], k=1)
        [{'x': 'c'}]
    """
    return weighted("best on average", relate, weigh, _in_order)


@cache  # the same object, so that its programs are compiled once
def greedy_portfolio() -> Recommender:
    """A portfolio: each configuration the one that helps the past tasks most beside those before.

    Source:
        Feurer, Eggensperger, Falkner, Lindauer & Hutter, "Auto-sklearn 2.0: hands-free AutoML via
        meta-learning", JMLR 2022, section 3.1.

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Choice(("a", "b", "c"))}
        >>> past = mh.transfer.experience(
        ...     space, [[0.0], [1.0]], [{"x": x} for x in "abc"], [[1.0, 0.0, 0.3], [0.0, 1.0, 0.3]]
        ... )
        >>> greedy_portfolio().fit(past).suggest([0.5], k=3)
        [{'x': 'c'}, {'x': 'a'}, {'x': 'b'}]
    """
    return weighted("greedy portfolio", relate, weigh)


def relate(key: Key, past: Past) -> tuple[chex.Array, PyTree]:
    """Equal weights of all others."""
    del key
    return normalised(others(past).astype(past.regret.dtype)), ()


def weigh(state: PyTree, past: Past, descriptor: chex.Array) -> chex.Array:
    """Equal weights of all."""
    del state, descriptor
    return uniform(past)


def _in_order(regret: chex.Array, weights: chex.Array, k: int) -> chex.Array:
    return jax.lax.top_k(-(weights @ regret), k)[1].astype(jnp.int32)
