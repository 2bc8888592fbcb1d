"""Networks that tell, of a task's descriptor and a configuration, how well that does."""

from functools import cache
from typing import Literal, NamedTuple, cast

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Key, PyTree
from metahpo.networks import MLP
from metahpo.transfer import portfolios
from metahpo.transfer.distribution import Distribution
from metahpo.transfer.past import Past, Scale, all_scaled, scaled
from metahpo.transfer.recommender import Recommender
from metahpo.transfer.weighted import FLOOR, expected, surprises

HIDDEN = (32, 32)
TASKS, CONFIGURATIONS = 8, 32  # of a batch
RATE, DECAY = 5e-3, 1e-2
FOLDS = 3  # every member leaves out one of so many parts of the tasks


class Ensemble(NamedTuple):
    """What is kept: the past's configurations, the networks, and what they were surprised by."""

    unit: chex.Array
    there: chex.Array
    scale: Scale
    weights: PyTree
    surprise: chex.Array


@cache  # the same object, so that its programs are compiled once
def performance_network(
    loss: Literal["regression", "ranking"] = "regression", members: int = 6, steps: int = 400
) -> Recommender:
    """An ensemble of networks from descriptor and configuration to regret, or to a rank.

    With ``"regression"`` they learn regrets by squared error.  With ``"ranking"`` they learn which
    of two configurations does better on a task, each pair counted by how much (RankNet); what they
    say then counts as the share of the configurations that are better.  Every member leaves out a
    third of the tasks, near-duplicates together; from what those say of tasks that they have not
    seen come the intervals, which are cautious, as all members together know more.  Suggestions are
    the greedy portfolio of what the members say, as if each were a task.

    Args:
        loss: what is learned.
        members: networks, at least 3.
        steps: AdamW updates on batches of 8 tasks and 32 configurations.

    Returns:
        A Recommender.

    Raises:
        ValueError: for another loss, fewer than 3 members, or no steps.

    Source:
        Khazi, Pineda Arango & Grabocka, "Deep ranking ensembles for hyperparameter optimization",
        ICLR 2023, for ensembles of rankers; Burges et al., "Learning to rank using gradient
        descent", ICML 2005, for their loss.

    Example:
        >>> import numpy as np, metahpo as mh
        >>> rows = np.linspace(0.0, 1.0, 12)[:, None]
        >>> past = mh.transfer.experience(
        ...     {"x": mh.Int(0, 4)}, rows, [{"x": i} for i in range(5)],
        ...     abs(rows - np.linspace(0.0, 1.0, 5)),
        ... )
        >>> len(performance_network(steps=20).fit(past).suggest([0.5], k=2))
        2
    """
    checks.one_of("loss", loss, ("regression", "ranking"))
    members = checks.whole("members", members, at_least=FOLDS)
    steps = checks.whole("steps", steps)
    network = MLP(HIDDEN, (0.0,))
    optimizer = optax.adamw(optax.cosine_decay_schedule(RATE, steps), weight_decay=DECAY)

    def score(weights: PyTree, x: chex.Array, unit: chex.Array) -> chex.Array:
        """``f[C]`` of a task ``f[F]``."""
        both = jnp.concatenate([jnp.broadcast_to(x, (len(unit), len(x))), 2 * unit - 1], axis=1)
        return cast(chex.Array, network.apply(weights, both))[:, 0]

    def error(weights: PyTree, x: chex.Array, unit: chex.Array, regret: chex.Array) -> chex.Array:
        said = jax.vmap(lambda row: score(weights, row, unit))(x)
        if loss == "regression":
            return jnp.mean((said - regret) ** 2)
        worse = regret[:, :, None] - regret[:, None]
        apart = said[:, :, None] - said[:, None]
        return jnp.mean(jnp.abs(worse) * jax.nn.softplus(-jnp.sign(worse) * apart))

    def train(key: Key, past: Past, x: chex.Array, bag: chex.Array) -> PyTree:
        init_key, key = jax.random.split(key)
        weights = network.init(init_key, jnp.zeros(x.shape[1] + past.unit.shape[1]))
        chances = jnp.where(bag, 0.0, -jnp.inf)

        def step(carry: tuple, key: Key) -> tuple[tuple, None]:
            weights, state = carry
            task_key, unit_key = jax.random.split(key)
            tasks = jax.random.categorical(task_key, chances, shape=(TASKS,))
            some = jax.random.randint(unit_key, (CONFIGURATIONS,), 0, len(past.unit))
            grad = jax.grad(error)(weights, x[tasks], past.unit[some], past.regret[tasks][:, some])
            updates, state = optimizer.update(grad, state, weights)
            return (optax.apply_updates(weights, updates), state), None

        start = weights, optimizer.init(weights)
        return jax.lax.scan(step, start, jax.random.split(key, steps))[0][0]

    def said(weights: PyTree, x: chex.Array, unit: chex.Array) -> chex.Array:
        """``f[E, C]``: regrets, or shares of better configurations."""
        scores = jax.vmap(lambda own: score(own, x, unit))(weights)
        if loss == "regression":
            return jnp.clip(scores, 0.0, 1.0)
        return jnp.argsort(jnp.argsort(scores, axis=1), axis=1) / scores.shape[1]

    def learn(key: Key, past: Past) -> Ensemble:
        fold_key, train_key = jax.random.split(key)
        scale, x = all_scaled(past)
        left_out = _folds(fold_key, past, members)
        keys = jax.random.split(train_key, members)
        bags = past.there & ~left_out
        weights = jax.vmap(lambda key, bag: train(key, past, x, bag))(keys, bags)

        def unseen(row: chex.Array, out: chex.Array) -> tuple[chex.Array, chex.Array]:
            return _moments(said(weights, row, past.unit), out.astype(row.dtype))

        mean, std = jax.lax.map(lambda pair: unseen(*pair), (x, left_out.T), batch_size=8)
        surprise = surprises(past.regret, mean, std)
        return Ensemble(past.unit, past.there, scale, weights, surprise)

    def choose(memory: Ensemble, descriptor: chex.Array, k: int) -> chex.Array:
        found = said(memory.weights, scaled(memory.scale, descriptor), memory.unit)
        return portfolios.greedy(found, jnp.ones(members) / members, k)

    def outcomes(memory: Ensemble, descriptor: chex.Array) -> Distribution:
        found = said(memory.weights, scaled(memory.scale, descriptor), memory.unit)
        mean, std = _moments(found, jnp.ones(members))
        return expected(mean, std, memory.surprise, memory.there)

    return Recommender(f"performance network, {loss}", learn, choose, outcomes)


def _folds(key: Key, past: Past, members: int) -> chex.Array:
    """``bool[members, T]``: whom each leaves out; every task is left out by a third of them."""
    leader = jnp.argmax(past.group[:, None] == past.group, axis=1)
    draw = jax.random.uniform(key, past.there.shape)
    first = past.there & (leader == jnp.arange(len(leader)))
    # Parts of the groups that are there, as even as can be.
    rank = jnp.argsort(jnp.argsort(jnp.where(first, draw, 2.0)))[leader]
    return (rank[None] + jnp.arange(members)[:, None]) % FOLDS == 0


def _moments(said: chex.Array, weights: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Means and deviations ``f[C]`` over the members that count."""
    share = (weights / jnp.maximum(weights.sum(), 1.0))[:, None]
    mean = (share * said).sum(0)
    return mean, jnp.sqrt((share * (said - mean) ** 2).sum(0)) + FLOOR
