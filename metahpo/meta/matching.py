"""Matching networks: the labels of the support, weighted by attention."""

from typing import NamedTuple, NotRequired, TypedDict

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, Params, Problem, TaskFamily
from metahpo.meta import amortised, similarity
from metahpo.meta.layers import Dense, init_dense, lstm, weighted_scores
from metahpo.problems.few_shot import Examples


class Context(TypedDict):
    """The LSTMs of the full-context embeddings."""

    forward: Dense
    backward: Dense
    query: Dense


class MatchingParams(TypedDict):
    """What is learned: the encoder and, with ``context_steps``, the LSTMs."""

    network: Params
    context: NotRequired[Context]


class Matched(NamedTuple):
    """The support, embedded.

    Attributes:
        params: the hyperparameters.
        support: ``f[n, e]``, embeddings (in their context, if there is one).
        members: ``f[n, ways]``, one-hot labels, zero for padding.
        weight: ``f[n]``, of the examples; ``None`` where all count alike.
    """

    params: MatchingParams
    support: chex.Array
    members: chex.Array
    weight: chex.Array | None = None


def matching(
    family: TaskFamily,
    *,
    ways: int,
    scale: chex.Numeric = 1.0,
    context_steps: int = 0,
) -> Problem:
    """Attention over the support's embeddings (Vinyals et al. 2016).

    ``p(class | x) = sum of a(x, x_i) over the support of the class`` (eq. 1), where ``a`` is a
    softmax of cosines.  With full-context embeddings a bidirectional LSTM over the support and an
    LSTM that reads it ``context_steps`` times change the embeddings (section 2.1.2, appendix A);
    predictions then depend on the support's order.

    Args:
        family: its network is the encoder, ``f[n, ...] -> f[n, e]``; its criterion judges the
            logarithms of the probabilities.
        ways: number of classes; the hyperparameters do not depend on it.
        scale: of the cosines before the softmax; the paper has 1.
        context_steps: of the query's LSTM, 0 for no context.

    Returns:
        A Problem of zero steps with hyperparameters ``{"network": ...}`` and, with a context,
        ``"context"``.  Outputs are log-probabilities; -inf for a class the support lacks.

    Raises:
        ValueError: if ``ways`` is below 2, ``context_steps`` negative or the family has no
            network or criterion; when called, for labels that do not fit and embeddings that are
            not ``[n, e]``.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> def sample(key):
        ...     y = jnp.arange(6) % 3
        ...     x = jax.nn.one_hot(y, 3) + 0.1 * jax.random.normal(key, (6, 3))
        ...     return mh.problems.Episode(*[mh.problems.Examples(x, y)] * 2)
        >>> network = mh.networks.MLP(hidden=(), bias=(0.0,) * 4, scale=1.0)
        >>> family = mh.problems.few_shot(sample, network, mh.problems.cross_entropy)
        >>> problem = matching(family, ways=3)
        >>> adapt, predict = mh.meta.learner(problem)
        >>> support, query = jax.jit(sample)(jax.random.key(0))
        >>> hparams = jax.jit(problem.initial)(jax.random.key(1))
        >>> adapted = jax.jit(adapt)(hparams, support, jax.random.key(2))
        >>> jax.jit(predict)(adapted, query.x).argmax(axis=1).tolist()
        [0, 1, 2, 0, 1, 2]
    """
    network = amortised.encoder_of(family)
    ways = amortised.check_ways(ways)
    context_steps = checks.whole("context_steps", context_steps, at_least=0)

    def initial(key: Key, support: Examples) -> MatchingParams:
        amortised.check_labels(support.y, ways)
        network_key, context_key = jax.random.split(key)
        params = network.init(network_key, support.x)
        if not context_steps:
            return {"network": params}
        embeddings = amortised.embed(network, params, support.x)
        return {"network": params, "context": _init_context(context_key, embeddings)}

    def represent(hparams: MatchingParams, support: Examples) -> Matched:
        embeddings = amortised.embed(network, hparams["network"], support.x)
        members = amortised.one_hot(support.y, ways, embeddings.dtype)
        if support.weight is not None:
            members = jnp.where(support.weight[:, None] > 0, members, 0)
        if context_steps:
            embeddings = _support_in_context(hparams["context"], embeddings, support.weight)
        return Matched(hparams, embeddings, members, support.weight)

    def predict(state: Matched, x: chex.Array) -> chex.Array:
        embeddings = amortised.embed(network, state.params["network"], x)
        if context_steps:
            layer = state.params["context"]["query"]
            embeddings = _query_in_context(layer, embeddings, state, context_steps)
        cosines = scale * similarity.cosine(embeddings, state.support)
        cosines = weighted_scores(cosines, state.weight)
        return _log_shares(jax.nn.log_softmax(cosines, axis=1), state.members)

    return amortised.zero_steps(family, initial, represent, predict)


def _log_shares(log_weights: chex.Array, members: chex.Array) -> chex.Array:
    """``log(exp(log_weights) @ members)``, f[m, ways], which does not underflow."""
    present = jnp.any(members != 0, axis=0)
    # A class without members is given all of them for a while, lest its slope be NaN.
    counted = (members != 0) | ~present
    terms = jnp.where(counted, log_weights[:, :, None], -jnp.inf)
    shares = jax.nn.logsumexp(terms, axis=1) + 0 * members.sum()  # a wrong label stays NaN
    return jnp.where(present, shares, -jnp.inf)


def _init_context(key: Key, embeddings: chex.Array) -> Context:
    e, dtype = embeddings.shape[1], embeddings.dtype
    forward, backward, query = jax.random.split(key, 3)
    return {
        "forward": init_dense(forward, 2 * e, 4 * e, dtype),
        "backward": init_dense(backward, 2 * e, 4 * e, dtype),
        "query": init_dense(query, 3 * e, 4 * e, dtype),
    }


def _support_in_context(
    context: Context, embeddings: chex.Array, weight: chex.Array | None
) -> chex.Array:
    """``g(x_i, S)``: the embedding plus the states of both directions (appendix A.2).

    Padding is passed over; an example of any other weight is read as a whole.
    """
    there = None if weight is None else weight > 0

    def read(layer: Dense, reverse: bool) -> chex.Array:
        def step(
            carry: tuple[chex.Array, chex.Array], item: tuple[chex.Array, chex.Array | None]
        ) -> tuple[tuple[chex.Array, chex.Array], chex.Array]:
            x, there = item
            hidden, cell = lstm(layer, x, *carry)
            if there is not None:
                hidden = jnp.where(there, hidden, carry[0])
                cell = jnp.where(there, cell, carry[1])
            return (hidden, cell), hidden

        zeros = jnp.zeros_like(embeddings[0])
        return jax.lax.scan(step, (zeros, zeros), (embeddings, there), reverse=reverse)[1]

    return embeddings + read(context["forward"], False) + read(context["backward"], True)


def _query_in_context(
    layer: Dense, embeddings: chex.Array, state: Matched, steps: int
) -> chex.Array:
    """``f(x, S)``: an LSTM that attends to the support at every step (appendix A.1)."""
    hidden, cell = jnp.zeros_like(embeddings), jnp.zeros_like(embeddings)
    for _ in range(steps):
        scores = weighted_scores(hidden @ state.support.T, state.weight)
        read = jax.nn.softmax(scores, axis=1) @ state.support  # eq. 5, 6
        # The hidden state that the LSTM sees is [hidden, read] (eq. 3).
        hidden, cell = lstm(layer, jnp.concatenate([embeddings, read], axis=1), hidden, cell)
        hidden = hidden + embeddings  # eq. 4
    return hidden
