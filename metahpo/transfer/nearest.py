"""What suited the past tasks whose descriptors are nearest."""

from functools import cache

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key, PyTree
from metahpo.transfer.past import Past, all_scaled, scaled
from metahpo.transfer.recommender import Recommender
from metahpo.transfer.weighted import others, weighted


@cache  # the same object, so that its programs are compiled once
def nearest_tasks() -> Recommender:
    """The best configuration of the nearest task, then that of the next, and so on.

    Distances are Euclidean between descriptors as shares of the past tasks below, so neither units
    nor logarithms matter.  A configuration stands once.  Of distributions the nearest task alone
    gives the middle.

    Source:
        Feurer, Springenberg & Hutter, "Initializing Bayesian hyperparameter optimization via
        meta-learning", AAAI 2015.

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Choice(("a", "b", "c"))}
        >>> past = mh.transfer.experience(
        ...     space, [[0.0], [1.0]], [{"x": x} for x in "abc"], [[1.0, 0.0, 0.3], [0.0, 1.0, 0.3]]
        ... )
        >>> nearest_tasks().fit(past).suggest([1.2], k=2)
        [{'x': 'a'}, {'x': 'b'}]
    """
    found = weighted("nearest tasks", _relate, _weigh)

    def choose(memory: PyTree, descriptor: chex.Array, k: int) -> chex.Array:
        past = memory.past
        scale, rows = memory.state
        order = jnp.argsort(_apart(rows, scaled(scale, descriptor), past.there))
        return _best_of_each(past.regret[order], past.there[order], k)

    return found._replace(choose=choose)


def _relate(key: Key, past: Past) -> tuple[chex.Array, PyTree]:
    del key
    scale, rows = all_scaled(past)
    apart = jax.vmap(lambda row, mask: _apart(rows, row, mask))(rows, others(past))
    return jax.nn.one_hot(apart.argmin(1), len(rows)), (scale, rows)


def _weigh(state: PyTree, past: Past, descriptor: chex.Array) -> chex.Array:
    scale, rows = state
    return jax.nn.one_hot(_apart(rows, scaled(scale, descriptor), past.there).argmin(), len(rows))


def _apart(rows: chex.Array, row: chex.Array, there: chex.Array) -> chex.Array:
    return jnp.where(there, ((rows - row) ** 2).sum(-1), jnp.inf)


def _best_of_each(regret: chex.Array, there: chex.Array, k: int) -> chex.Array:
    """``i32[k]``: of the tasks in turn, round by round, the best configuration not yet chosen."""
    count = jnp.maximum(there.sum(), 1)

    def pick(used: chex.Array, i: chex.Array) -> tuple[chex.Array, chex.Array]:
        row = jnp.where(used, jnp.inf, regret[i % count])
        best = jnp.argmin(row).astype(jnp.int32)
        return used.at[best].set(True), best

    return jax.lax.scan(pick, jnp.zeros(regret.shape[1], bool), jnp.arange(k))[1]
