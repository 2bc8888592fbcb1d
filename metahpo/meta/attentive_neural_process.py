"""Attentive neural processes: every query chooses which support points to look at."""

from typing import TypedDict

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, Problem, TaskFamily
from metahpo.meta import amortised
from metahpo.meta.layers import Dense, init_dense, init_mlp, mlp
from metahpo.meta.neural_process import (
    Focus,
    ProcessState,
    check_min_std,
    flat,
    gaussian,
    init_process,
    pairs,
    split_heads,
    surprise,
)
from metahpo.problems.few_shot import Examples


class AttentiveParams(TypedDict):
    """What is learned.

    ``keys`` are layers from inputs to keys and queries alike; each of the ``heads`` for keys,
    queries and values is a ``Dense`` with kernel f[e, heads, e / heads].
    """

    encoder: list[Dense]
    decoder: list[Dense]
    keys: list[Dense]
    heads: dict[str, Dense]


def attentive_neural_process(
    family: TaskFamily,
    *,
    width: int = 128,
    depth: int = 3,
    heads: int = 8,
    min_std: chex.Numeric = 0.1,
) -> Problem:
    """A neural process with cross-attention from queries to support (Kim et al. 2019, section 3).

    The deterministic path of the paper: the mean over the support's representations gives way to
    multi-head attention, whose keys and queries are computed from the inputs.  There is no latent
    variable and no attention within the support.  Outer loss, predictions and ``gaussian`` are
    those of ``neural_process``.

    Args:
        family: of tasks with values ``f[n, d]`` for targets.  Inputs are flattened; its network
            is not used.
        width: of the hidden layers and of the representation; a multiple of ``heads``.
        depth: hidden layers of each network, with ReLU.
        heads: of the attention.
        min_std: the smallest standard deviation.

    Returns:
        A Problem of zero steps with hyperparameters ``AttentiveParams``.  It predicts the mean
        ``f[n, d]``.

    Raises:
        ValueError: if ``width``, ``depth`` or ``heads`` is below 1, ``heads`` does not divide
            ``width`` or ``min_std`` is not in (0, 1); when called, for targets that are not
            floats ``[n, d]``.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = attentive_neural_process(mh.problems.sinusoid(shots=5), width=16, heads=2)
        >>> adapt, predict = mh.meta.learner(problem)
        >>> def answer(key):
        ...     episode = problem.sample(key)
        ...     adapted = adapt(problem.initial(key), episode.support, key)
        ...     return predict(adapted, episode.query.x)
        >>> jax.jit(answer)(jax.random.key(0)).shape
        (100, 1)
    """
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    width, depth, heads = checks.counts(width=width, depth=depth, heads=heads)
    check_min_std(min_std)
    if width % heads:
        raise ValueError(f"heads must divide the width, got {heads=}, {width=}")

    def initial(key: Key, support: Examples) -> AttentiveParams:
        process_key, keys_key, heads_key = jax.random.split(key, 3)
        process = init_process(process_key, support, width, depth)
        x = flat(support.x)
        layers = init_mlp(keys_key, (x.shape[1], *depth * (width,), width), x.dtype)
        names = ("query", "key", "value")
        split = {
            name: _init_heads(key, width, heads, x.dtype)
            for name, key in zip(names, jax.random.split(heads_key, 3), strict=True)
        }
        return {**process, "keys": layers, "heads": split}

    def represent(hparams: AttentiveParams, support: Examples) -> ProcessState:
        values = mlp(hparams["encoder"], pairs(support))
        keys = mlp(hparams["keys"], flat(support.x))
        each = hparams["heads"]
        focus = Focus(hparams["keys"], each["query"], split_heads(each["key"], keys))
        lowest = jnp.asarray(min_std, values.dtype)
        heads = split_heads(each["value"], values)
        return ProcessState(hparams["decoder"], heads, lowest, focus, support.weight)

    return amortised.zero_steps(
        family, initial, represent, lambda state, x: gaussian(state, x).mean, surprise
    )


def _init_heads(key: Key, width: int, heads: int, dtype: chex.ArrayDType) -> Dense:
    joint = init_dense(key, width, width, dtype)
    return {
        "kernel": joint["kernel"].reshape(width, heads, -1),
        "bias": joint["bias"].reshape(heads, -1),
    }
