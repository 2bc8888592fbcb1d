"""A portfolio for the task at hand, where descriptors say anything, and else the one for all."""

from functools import cache
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, PyTree
from metahpo.transfer import constant, forest, portfolios
from metahpo.transfer.forest import Tree
from metahpo.transfer.past import Past, Scale, all_scaled, scaled
from metahpo.transfer.recommender import Recommender
from metahpo.transfer.weighted import uniform, weighted

IN_BAG = 0.6
CANDIDATES = 16  # features that a tree tries at each level
JUDGED = 4  # suggestions by which the gate judges
LEAST = 1.0  # standard errors of the statistic that judges


class Conditioned(NamedTuple):
    """What the conditioned portfolio keeps.

    Attributes:
        scale: of the descriptors.
        trees: the forest.
        gain: ``f[]``, the regret that descriptors save on past tasks, each left out.
        statistic: ``f[]``, of Wilcoxon's signed-rank test for that, about normal.
    """

    scale: Scale
    trees: Tree
    gain: chex.Array
    statistic: chex.Array

    @property
    def is_open(self) -> chex.Array:
        """``bool[]``: whether descriptors are believed."""
        return self.statistic > LEAST


@cache  # the same object, so that its programs are compiled once
def conditioned_portfolio(trees: int = 128, gate: bool = True) -> Recommender:
    """A greedy portfolio of past tasks weighted by a forest, as far as that has helped before.

    Trees split the past tasks by their descriptors such that in each part the same configurations
    are good (extremely randomised; the outputs are the regrets of all configurations, each task's
    mean taken off).  A new task gets the greedy portfolio of the tasks that share its
    leaves.  Each tree has seen a part of the tasks, near-duplicates together; what it says of the
    others shows what descriptors are worth.  Unless that is better than the greedy portfolio of all
    tasks, on the mean of the first four suggestions and by more than one standard error of the
    signed-rank statistic, the gate is closed and the suggestions are those of
    ``greedy_portfolio``.  (Ranks do not hang on single tasks: one that is left out hardly moves
    the gate.)

    Args:
        trees: of the forest.
        gate: whether there is a gate; without one descriptors are always believed.

    Returns:
        A Recommender; ``fit(experience).memory.state`` has ``gain``, ``statistic`` and
        ``is_open``.

    Raises:
        ValueError: for no trees.

    Source:
        Geurts, Ernst & Wehenkel, "Extremely randomized trees", Machine Learning 2006, for the
        trees; Meinshausen, "Quantile regression forests", JMLR 2006, for their weights.

    Example:
        >>> import numpy as np, metahpo as mh
        >>> rows = np.linspace(0.0, 1.0, 20)[:, None]
        >>> choices = [{"x": i} for i in range(5)]
        >>> space = {"x": mh.Int(0, 4)}
        >>> past = mh.transfer.experience(
        ...     space, rows, choices, abs(rows - np.linspace(0.0, 1.0, 5)), names=["size"]
        ... )
        >>> fitted = conditioned_portfolio().fit(past)
        >>> fitted.suggest({"size": 0.97}), fitted.suggest([0.02])
        ([{'x': 4}], [{'x': 0}])
    """
    trees = checks.whole("trees", trees)

    def relate(key: Key, past: Past) -> tuple[chex.Array, PyTree]:
        bag_key, tree_key = jax.random.split(key)
        scale, x = all_scaled(past)
        outputs = past.regret - past.regret.mean(1, keepdims=True)
        alike = outputs @ outputs.T
        levels, candidates = forest.levels_for(len(x)), min(x.shape[1], CANDIDATES)
        bags = _bags(bag_key, past, trees)
        keys = jax.random.split(tree_key, trees)
        grown = jax.vmap(
            lambda key, bag: forest.grow(key, x, alike, bag, past.there[bag], levels, candidates)
        )(keys, bags)
        own = forest.own_likeness(grown, x, past.group)
        plain, _ = constant.relate(key, past)
        # A task that every tree has seen, or that is a past of its own, has no weights.
        own = jnp.where(own.sum(1, keepdims=True) > 0, own, plain)
        saved = _mean_regret(past.regret, plain) - _mean_regret(past.regret, own)
        count = jnp.maximum(past.there.sum(), 1)
        gain = jnp.where(past.there, saved, 0.0).sum() / count
        state = Conditioned(scale, grown, gain, _signed_rank(saved, past.there))
        return jnp.where(state.is_open | (not gate), own, plain), state

    def weigh(state: Conditioned, past: Past, descriptor: chex.Array) -> chex.Array:
        x = scaled(state.scale, descriptor)
        weights = forest.likeness(state.trees, x, len(past.there))
        return jnp.where(state.is_open | (not gate), weights, uniform(past))

    return weighted("conditioned portfolio", relate, weigh)


def _mean_regret(regret: chex.Array, weights: chex.Array) -> chex.Array:
    """``f[T]``: of the first suggestions on the mean, for every task with its own weights."""

    def one(row: chex.Array, own: chex.Array) -> chex.Array:
        return portfolios.so_far(row, portfolios.greedy(regret, own, JUDGED)).mean()

    return jax.lax.map(lambda pair: one(*pair), (regret, weights), batch_size=8)


def _signed_rank(saved: chex.Array, there: chex.Array) -> chex.Array:
    """``f[]``: how clearly numbers are rather positive than negative; 0 where all are zero."""
    differs = there & (saved != 0)
    size = jnp.abs(saved)
    lower = (differs & (size < size[:, None])).sum(1)
    equal = (differs & (size == size[:, None])).sum(1)
    rank = lower + (equal + 1) / 2
    count = differs.sum()
    positive = jnp.where(differs & (saved > 0), rank, 0.0).sum()
    variance = count * (count + 1) * (2 * count + 1) / 24
    return (positive - count * (count + 1) / 4) / jnp.sqrt(jnp.maximum(variance, 1.0))


def _bags(key: Key, past: Past, trees: int) -> chex.Array:
    """``i32[trees, B]``: tasks that trees see, near-duplicates one after the other."""
    tasks = len(past.there)
    leader = jnp.argmax(past.group[:, None] == past.group, axis=1)
    order = jax.random.uniform(key, (trees, tasks))[:, leader]
    order = jnp.where(past.there, order, jnp.inf)
    return jnp.argsort(order, axis=1)[:, : max(1, int(IN_BAG * tasks))].astype(jnp.int32)
