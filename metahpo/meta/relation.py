"""Relation networks: a learned comparison of a query with every class."""

from typing import NamedTuple, TypedDict

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key, Params, Problem, TaskFamily
from metahpo.meta import zero_steps
from metahpo.meta.layers import Dense, init_mlp, mlp
from metahpo.problems.few_shot import Examples


class RelationParams(TypedDict):
    """What is learned: the encoder and the network that compares."""

    network: Params
    relation: list[Dense]


class Classes(NamedTuple):
    """One embedding a class.

    Attributes:
        params: the hyperparameters.
        sums: ``f[ways, e]``, the sum of the class's embeddings.
    """

    params: RelationParams
    sums: chex.Array


def relation(family: TaskFamily, *, ways: int, hidden: tuple[int, ...] = (64,)) -> Problem:
    """Scores in [0, 1] from a network that sees query and class (Sung et al. 2018).

    ``score = sigmoid(relation([class, query]))`` (eq. 1), where a class is the sum of its
    embeddings and ``relation`` has dense layers with ReLU between them; the paper compares maps
    of features by convolutions.  The outer loss is the mean squared error against 1 for the right
    class and 0 for the others (eq. 2), not the family's criterion.

    Args:
        family: its network is the encoder, ``f[n, ...] -> f[n, e]``.
        ways: number of classes; the hyperparameters do not depend on it.
        hidden: widths of the hidden layers of the comparison.

    Returns:
        A Problem of zero steps with hyperparameters ``{"network": ..., "relation": ...}``; the
        outputs are the scores ``f[n, ways]``.  As the paper's they are for classes of as many
        shots as meta-training had.

    Raises:
        ValueError: if ``ways`` is below 2, a width below 1 or the family has no network; when
            called, for labels that do not fit and embeddings that are not ``[n, e]``.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> def sample(key):
        ...     y = jnp.arange(6) % 3
        ...     x = jax.nn.one_hot(y, 3) + 0.1 * jax.random.normal(key, (6, 3))
        ...     return mh.problems.Episode(*[mh.problems.Examples(x, y)] * 2)
        >>> network = mh.networks.MLP(hidden=(), bias=(0.0,) * 4, scale=1.0)
        >>> family = mh.problems.few_shot(sample, network, mh.problems.cross_entropy)
        >>> problem = relation(family, ways=3)
        >>> adapt, predict = mh.meta.learner(problem)
        >>> support, query = sample(jax.random.key(0))
        >>> adapted = adapt(problem.initial(jax.random.key(1)), support, jax.random.key(2))
        >>> predict(adapted, query.x).shape
        (6, 3)
    """
    network = zero_steps.encoder_of(family)
    zero_steps.check_ways(ways)
    zero_steps.check_widths(hidden=hidden)

    def initial(key: Key, support: Examples) -> RelationParams:
        zero_steps.check_labels(support.y, ways)
        network_key, relation_key = jax.random.split(key)
        params = network.init(network_key, support.x)
        embeddings = zero_steps.embed(network, params, support.x)
        widths = (2 * embeddings.shape[1], *hidden, 1)
        return {"network": params, "relation": init_mlp(relation_key, widths, embeddings.dtype)}

    def represent(hparams: RelationParams, support: Examples) -> Classes:
        embeddings = zero_steps.embed(network, hparams["network"], support.x)
        return Classes(
            hparams, zero_steps.one_hot(support.y, ways, embeddings.dtype).T @ embeddings
        )

    def predict(state: Classes, x: chex.Array) -> chex.Array:
        queries = zero_steps.embed(network, state.params["network"], x)
        shape = (len(queries), ways, queries.shape[1])
        pairs = jnp.concatenate(
            [
                jnp.broadcast_to(state.sums, shape),
                jnp.broadcast_to(queries[:, None], shape),
            ],
            axis=2,
        )
        return jax.nn.sigmoid(mlp(state.params["relation"], pairs).squeeze(2))

    def judge(state: Classes, query: Examples) -> chex.Array:
        scores = predict(state, query.x)
        return jnp.mean((scores - zero_steps.one_hot(query.y, ways, scores.dtype)) ** 2)

    return zero_steps.zero_steps(family, initial, represent, predict, judge)
