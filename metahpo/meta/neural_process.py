"""Conditional neural processes: a distribution of functions from an average over the support."""

from typing import NamedTuple, TypedDict

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, Problem, TaskFamily
from metahpo.floats import real
from metahpo.meta import amortised
from metahpo.meta.layers import Dense, attention, dense, init_mlp, mlp
from metahpo.problems.criteria import check_values
from metahpo.problems.criteria import mean as average
from metahpo.problems.few_shot import Examples


class Gaussian(NamedTuple):
    """Independent normal predictions, ``mean`` and standard deviation ``std`` f[n, d]."""

    mean: chex.Array
    std: chex.Array


class ProcessParams(TypedDict):
    """What is learned: the network of support points, and that of predictions."""

    encoder: list[Dense]
    decoder: list[Dense]


class Focus(NamedTuple):
    """What makes queries look at some support points more than at others.

    Attributes:
        query: layers from inputs to queries.
        heads: ``Dense`` with kernel ``f[e, heads, e / heads]`` after them.
        keys: ``f[n, heads, e / heads]``, of the support.
    """

    query: list[Dense]
    heads: Dense
    keys: chex.Array


class ProcessState(NamedTuple):
    """All that predictions need.

    Attributes:
        decoder: layers from ``[input, representation]`` to mean and raw deviation.
        values: ``f[1, e]``, the support's mean representation, or one row a support point,
            ``f[n, heads, e / heads]``, for queries to choose from.
        min_std: ``f[]``.
        focus: how they choose; ``None`` without attention.
        weight: ``f[n]``, how much each row counts, with attention; ``None`` where all do alike.
    """

    decoder: list[Dense]
    values: chex.Array
    min_std: chex.Array
    focus: Focus | None
    weight: chex.Array | None = None


def neural_process(
    family: TaskFamily, *, width: int = 128, depth: int = 3, min_std: chex.Numeric = 0.1
) -> Problem:
    """A conditional neural process for regression (Garnelo et al. 2018, eq. 1 to 3).

    Each support point becomes a representation, ``r_i = h(x_i, y_i)``; their mean r and a query's
    input give its mean and standard deviation, ``g(x, r)``.  The outer loss is the mean negative
    log-likelihood of the query, not the family's criterion.

    Args:
        family: of tasks with values ``f[n, d]`` for targets.  Inputs are flattened; its network
            is not used.
        width: of the hidden layers and of the representation.
        depth: hidden layers of each network, with ReLU.
        min_std: the smallest standard deviation, ``min_std + (1 - min_std) softplus(raw)``.

    Returns:
        A Problem of zero steps with hyperparameters ``{"encoder": ..., "decoder": ...}``.  It
        predicts the mean ``f[n, d]``; ``gaussian(state, x)`` gives the deviation, too.

    Raises:
        ValueError: if ``width`` or ``depth`` is below 1 or ``min_std`` not in (0, 1); when
            called, for targets that are not floats ``[n, d]``.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = neural_process(mh.problems.sinusoid(shots=5), width=16)
        >>> adapt, predict = mh.meta.learner(problem)
        >>> episode = problem.sample(jax.random.key(0))
        >>> hparams = jax.jit(problem.initial)(jax.random.key(1))
        >>> adapted = jax.jit(adapt)(hparams, episode.support, jax.random.key(2))
        >>> mean, std = jax.jit(gaussian)(adapted, episode.query.x)
        >>> mean.shape, bool((std > 0.1).all())
        ((100, 1), True)
    """
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    width, depth = checks.counts(width=width, depth=depth)
    check_min_std(min_std)

    def initial(key: Key, support: Examples) -> ProcessParams:
        return init_process(key, support, width, depth)

    def represent(hparams: ProcessParams, support: Examples) -> ProcessState:
        each = mlp(hparams["encoder"], pairs(support))  # eq. 1
        if support.weight is None:
            mean = each.mean(axis=0, keepdims=True)  # eq. 2
        else:
            weight = jnp.asarray(support.weight).astype(each.dtype)
            mean = (weight / weight.sum() @ each)[None]
        return ProcessState(hparams["decoder"], mean, jnp.asarray(min_std, mean.dtype), None)

    return amortised.zero_steps(
        family, initial, represent, lambda state, x: gaussian(state, x).mean, surprise
    )


def gaussian(state: ProcessState, x: chex.Array) -> Gaussian:
    """What a (conditional or attentive) neural process says of inputs ``f[n, ...]``.

    Args:
        state: what ``adapt`` made of a support set.
        x: query inputs.

    Returns:
        Mean and standard deviation, f[n, d] each.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.meta.attentive_neural_process(mh.problems.sinusoid(shots=5))
        >>> episode = problem.sample(jax.random.key(0))
        >>> hparams = jax.jit(problem.initial)(jax.random.key(1))
        >>> state = jax.jit(problem.init)(jax.random.key(2), hparams, episode)
        >>> jax.jit(gaussian)(state, episode.query.x).std.shape
        (100, 1)
    """
    x = flat(x)
    if state.focus is None:
        read = jnp.broadcast_to(state.values, (len(x), state.values.shape[1]))
    else:
        queries = split_heads(state.focus.heads, mlp(state.focus.query, x))
        read = attention(queries, state.focus.keys, state.values, weight=state.weight)
        read = read.reshape(len(x), -1)
    outputs = mlp(state.decoder, jnp.concatenate([x, read], axis=1))  # eq. 3
    mean, raw = jnp.split(outputs, 2, axis=1)
    return Gaussian(mean, state.min_std + (1 - state.min_std) * jax.nn.softplus(raw))


def surprise(state: ProcessState, query: Examples) -> chex.Array:
    """The mean negative log-likelihood f[] of values f[n, d]."""
    mean, std = gaussian(state, query.x)
    check_values("a neural process", mean, query.y)
    return -average(jax.scipy.stats.norm.logpdf(query.y, mean, std), query.weight)


def init_process(key: Key, support: Examples, width: int, depth: int) -> ProcessParams:
    """Weights for inputs and targets like those of ``support``."""
    inputs, outputs, dtype = pairs(support).shape[1], support.y.shape[1], flat(support.x).dtype
    encoder, decoder = jax.random.split(key)
    hidden = depth * (width,)
    return {
        "encoder": init_mlp(encoder, (inputs, *hidden, width), dtype),
        "decoder": init_mlp(decoder, (inputs - outputs + width, *hidden, 2 * outputs), dtype),
    }


def check_min_std(min_std: chex.Numeric) -> None:
    """Refuses a concrete number that is not one."""
    if checks.known(min_std) and not 0 < min_std < 1:
        raise ValueError(f"min_std must lie in (0, 1), got {min_std}")


def pairs(support: Examples) -> chex.Array:
    """Inputs and targets side by side, f[n, ...]."""
    x = flat(support.x)
    return jnp.concatenate([x, amortised.targets(support.y, None, x.dtype)], axis=1)


def flat(x: chex.Array) -> chex.Array:
    """``f[n, ...]``, or whole numbers, as f[n, i]."""
    return real(x).reshape(len(x), -1)


def split_heads(heads: Dense, x: chex.Array) -> chex.Array:
    """``f[n, e]`` as f[n, heads, e / heads]."""
    shape = heads["kernel"].shape
    joint: Dense = {
        "kernel": heads["kernel"].reshape(shape[0], -1),
        "bias": heads["bias"].reshape(-1),
    }
    return dense(joint, x).reshape(len(x), *shape[1:])
