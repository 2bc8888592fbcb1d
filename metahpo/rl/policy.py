"""Policies: distributions over an environment's actions, with weights to learn."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo.base import Key, PyTree
from metahpo.networks import MLP
from metahpo.rl.environment import Environment
from metahpo.rl.space_values import flat_size, flatten
from metahpo.space import Choice


class Policy(NamedTuple):
    """A parametrised distribution over actions, given an observation.

    Attributes:
        init: ``(key) -> weights``.
        sample: ``(key, weights, observation) -> action``.
        log_prob: ``(weights, observation, action) -> f[]``, differentiable in the weights.
        mode: ``(weights, observation) -> action``, the most probable one.
    """

    init: Callable[[Key], PyTree]
    sample: Callable[[Key, PyTree, PyTree], PyTree]
    log_prob: Callable[[PyTree, PyTree, PyTree], chex.Array]
    mode: Callable[[PyTree, PyTree], PyTree]


def softmax_policy(environment: Environment, hidden: Sequence[int] = (16,)) -> Policy:
    """A dense network that decides every choice of the action by a softmax of its own.

    Untrained, all choices are nearly equally likely.

    Args:
        environment: gives the spaces of observations and actions.
        hidden: widths of the hidden layers; ``()`` makes the logits linear in the observation.

    Returns:
        A Policy whose actions are those of the environment, indices ``i32``.

    Raises:
        ValueError: if an action is more than choices.

    Example:
        >>> import metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> space = {"x": mh.Float(0.0, 1.0)}
        >>> environment = mh.rl.tuning_environment(problem, space, segment_steps=1, segments=2)
        >>> policy = mh.rl.softmax_policy(environment)
        >>> weights = jax.jit(policy.init)(jax.random.key(0))
        >>> observation = jnp.zeros(environment.observation_space.shape)
        >>> jax.jit(policy.sample)(jax.random.key(1), weights, observation).shape
        (1,)
    """
    treedef: Any
    dims, treedef = jax.tree.flatten(environment.action_space)
    for dim in dims:
        if not isinstance(dim, Choice):
            raise ValueError(f"softmax_policy decides between choices, got an action of {dim}")
    sizes = [math.prod(dim.shape) * len(dim.values) for dim in dims]
    network = MLP(hidden=tuple(hidden), bias=(0.0,) * sum(sizes))

    def logits(weights: PyTree, observation: PyTree) -> list[chex.Array]:
        features = flatten(environment.observation_space, observation)
        flat = cast(chex.Array, network.apply(weights, features))
        parts = jnp.split(flat, np.cumsum(sizes)[:-1])
        return [
            part.reshape(*dim.shape, len(dim.values)) for part, dim in zip(parts, dims, strict=True)
        ]

    def init(key: Key) -> PyTree:
        return network.init(key, jnp.zeros(flat_size(environment.observation_space)))

    def sample(key: Key, weights: PyTree, observation: PyTree) -> PyTree:
        parts = logits(weights, observation)
        keys = jax.random.split(key, len(parts))
        drawn = [jax.random.categorical(k, part) for k, part in zip(keys, parts, strict=True)]
        return treedef.unflatten([one.astype(jnp.int32) for one in drawn])

    def log_prob(weights: PyTree, observation: PyTree, action: PyTree) -> chex.Array:
        logs = [
            jnp.take_along_axis(jax.nn.log_softmax(part), index[..., None], axis=-1).sum()
            for part, index in zip(
                logits(weights, observation), treedef.flatten_up_to(action), strict=True
            )
        ]
        return jnp.stack(logs).sum()

    def mode(weights: PyTree, observation: PyTree) -> PyTree:
        best = [jnp.argmax(part, axis=-1) for part in logits(weights, observation)]
        return treedef.unflatten([one.astype(jnp.int32) for one in best])

    return Policy(init, sample, log_prob, mode)
