"""Relation networks: a learned comparison of a query with every class."""

from functools import partial
from typing import NamedTuple, TypedDict

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, Network, Params, Problem, TaskFamily
from metahpo.meta import amortised
from metahpo.meta.layers import init_mlp, mlp
from metahpo.problems.criteria import mean
from metahpo.problems.few_shot import Examples


class RelationParams(TypedDict):
    """What is learned: the encoder and the network that compares."""

    network: Params
    relation: Params


class Classes(NamedTuple):
    """One embedding a class.

    Attributes:
        params: the hyperparameters.
        sums: ``f[ways, ..., e]``, the sum of the class's embeddings.
    """

    params: RelationParams
    sums: chex.Array


def relation(
    family: TaskFamily,
    *,
    ways: int,
    hidden: tuple[int, ...] = (64,),
    comparison: Network | None = None,
) -> Problem:
    """Scores in [0, 1] from a network that sees query and class (Sung et al. 2018).

    ``score = sigmoid(relation([class, query]))`` (eq. 1), where a class is the sum of its
    embeddings.  The outer loss is the mean squared error against 1 for the right class and 0 for
    the others (eq. 2), not the family's criterion.

    The paper compares maps of features by convolutions, as an encoder
    ``conv4(None, layers=2, head="maps")`` and the comparison ``conv4(1, layers=2)`` do; its encoder
    has two more blocks, which do not pool, and its comparison a dense layer more.

    Args:
        family: its network is the encoder, ``f[n, ...] -> f[n, e]``, or ``f[n, ..., e]`` for a
            ``comparison`` that takes such inputs.
        ways: number of classes; the hyperparameters do not depend on it.
        hidden: widths of the hidden layers of the comparison, which are dense with ReLU between
            them; not used with ``comparison``.
        comparison: a network of pairs ``f[m, ..., 2 e]``, class before query, to ``f[m, 1]``.
            ``m`` is the number of queries times ``ways``: a batch norm in it sees all pairs.

    Returns:
        A Problem of zero steps with hyperparameters ``{"network": ..., "relation": ...}``; the
        outputs are the scores ``f[n, ways]``.  As the paper's they are for classes of as many
        shots as meta-training had.

    Raises:
        ValueError: if ``ways`` is below 2, a width below 1 or the family has no network; when
            called, for labels that do not fit, embeddings that are not ``[n, e]`` without
            ``comparison`` and outputs of it that are not ``[m, 1]``.

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
        >>> support, query = jax.jit(sample)(jax.random.key(0))
        >>> def answer(key):
        ...     return predict(adapt(problem.initial(key), support, key), query.x)
        >>> jax.jit(answer)(jax.random.key(1)).shape
        (6, 3)
    """
    network = amortised.encoder_of(family)
    ways = amortised.check_ways(ways)
    hidden = tuple(checks.whole("a width of hidden", width) for width in hidden)
    compare = dense_comparison(hidden) if comparison is None else comparison
    embed = partial(amortised.embed, maps=comparison is not None)

    def initial(key: Key, support: Examples) -> RelationParams:
        amortised.check_labels(support.y, ways)
        network_key, relation_key = jax.random.split(key)
        params = network.init(network_key, support.x)
        embeddings = embed(network, params, support.x)
        pairs = jnp.concatenate([embeddings, embeddings], axis=-1)
        return {"network": params, "relation": compare.init(relation_key, pairs)}

    def represent(hparams: RelationParams, support: Examples) -> Classes:
        embeddings = embed(network, hparams["network"], support.x)
        members = amortised.one_hot(support.y, ways, embeddings.dtype)
        members = amortised.weighted(members, support.weight)
        return Classes(hparams, jnp.tensordot(members, embeddings, (0, 0)))

    def predict(state: Classes, x: chex.Array) -> chex.Array:
        queries = embed(network, state.params["network"], x)
        shape = (len(queries), ways, *queries.shape[1:])
        pairs = jnp.concatenate(
            [jnp.broadcast_to(state.sums, shape), jnp.broadcast_to(queries[:, None], shape)],
            axis=-1,
        )
        scores = compare.apply(state.params["relation"], pairs.reshape(-1, *pairs.shape[2:]))
        if scores.shape != (len(queries) * ways, 1):
            raise ValueError(
                f"the comparison must map pairs [m, ...] to [m, 1], here "
                f"m = {len(queries) * ways}, but its outputs are {scores.shape}"
            )
        return jax.nn.sigmoid(scores.reshape(-1, ways))

    def judge(state: Classes, query: Examples) -> chex.Array:
        scores = predict(state, query.x)
        errors = (scores - amortised.one_hot(query.y, ways, scores.dtype)) ** 2
        return mean(errors, query.weight)

    return amortised.zero_steps(family, initial, represent, predict, judge)


def dense_comparison(hidden: tuple[int, ...]) -> Network:
    """Dense layers from pairs ``f[m, 2 e]`` to ``f[m, 1]``."""
    return Network(lambda key, x: init_mlp(key, (x.shape[1], *hidden, 1), x.dtype), mlp)
