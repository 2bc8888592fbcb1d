"""Policies: distributions over an environment's actions, with weights to learn."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key, PyTree
from metahpo.networks import MLP
from metahpo.rl.environment import Environment


class Policy(NamedTuple):
    """A parametrised distribution over actions, given an observation.

    Attributes:
        init: ``(key) -> weights``.
        sample: ``(key, weights, observation) -> action``.
        log_prob: ``(weights, observation, action) -> f[]``, differentiable in the weights.
        mode: ``(weights, observation) -> action``, the most probable one.
    """

    init: Callable[[Key], PyTree]
    sample: Callable[[Key, PyTree, chex.Array], chex.Array]
    log_prob: Callable[[PyTree, chex.Array, chex.Array], chex.Array]
    mode: Callable[[PyTree, chex.Array], chex.Array]


def softmax_policy(environment: Environment, hidden: Sequence[int] = (16,)) -> Policy:
    """A dense network that decides every entry of the action by a softmax of its own.

    Untrained, all choices are nearly equally likely.

    Args:
        environment: gives the sizes of observations and actions.
        hidden: widths of the hidden layers; ``()`` makes the logits linear in the observation.

    Returns:
        A Policy whose actions are ``i32[decisions]``.

    Example:
        >>> import metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> space = {"x": mh.Float(0.0, 1.0)}
        >>> environment = mh.rl.tuning_environment(problem, space, segment_steps=1, segments=2)
        >>> policy = mh.rl.softmax_policy(environment)
        >>> weights = jax.jit(policy.init)(jax.random.key(0))
        >>> observation = jnp.zeros(environment.observations)
        >>> jax.jit(policy.sample)(jax.random.key(1), weights, observation).shape
        (1,)
    """
    decisions, choices = environment.decisions, environment.choices
    network = MLP(hidden=tuple(hidden), bias=(0.0,) * (decisions * choices))

    def logits(weights: PyTree, observation: chex.Array) -> chex.Array:
        logits = cast(chex.Array, network.apply(weights, observation))
        return logits.reshape(decisions, choices)

    def init(key: Key) -> PyTree:
        return network.init(key, jnp.zeros(environment.observations))

    def sample(key: Key, weights: PyTree, observation: chex.Array) -> chex.Array:
        return jax.random.categorical(key, logits(weights, observation)).astype(jnp.int32)

    def log_prob(weights: PyTree, observation: chex.Array, action: chex.Array) -> chex.Array:
        all_logs = jax.nn.log_softmax(logits(weights, observation))
        return jnp.take_along_axis(all_logs, action[:, None], axis=1).sum()

    def mode(weights: PyTree, observation: chex.Array) -> chex.Array:
        return jnp.argmax(logits(weights, observation), axis=-1).astype(jnp.int32)

    return Policy(init, sample, log_prob, mode)
