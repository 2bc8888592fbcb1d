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
from metahpo.rl.space_values import flatten
from metahpo.space import Choice, Float


class Policy(NamedTuple):
    """A parametrised distribution over actions, given an observation.

    Attributes:
        init: ``(key) -> weights``.
        sample: ``(key, weights, observation) -> action``.
        log_prob: ``(weights, observation, action) -> f[]``, differentiable in the weights.
        mode: ``(weights, observation) -> action``, the most probable one.
        entropy: ``(weights, observation) -> f[]``, differentiable in the weights, where it has a
            closed form.
        value: ``(weights, observation) -> f[]``, what the policy expects to come, of policies with
            a critic (``with_value``).
        action_values: ``(weights, observation) -> f[A]``, what it expects to come after each
            action, in the order of ``enumeration``, of policies that choose by that.
    """

    init: Callable[[Key], PyTree]
    sample: Callable[[Key, PyTree, PyTree], PyTree]
    log_prob: Callable[[PyTree, PyTree, PyTree], chex.Array]
    mode: Callable[[PyTree, PyTree], PyTree]
    entropy: Callable[[PyTree, PyTree], chex.Array] | None = None
    value: Callable[[PyTree, PyTree], chex.Array] | None = None
    action_values: Callable[[PyTree, PyTree], chex.Array] | None = None


Features = Callable[[PyTree], chex.Array]
"""What a network sees of an observation: ``(observation) -> f[F]``."""


def softmax_policy(
    environment: Environment, hidden: Sequence[int] = (16,), *, features: Features | None = None
) -> Policy:
    """A dense network that decides every choice of the action by a softmax of its own.

    Untrained, all choices are nearly equally likely.

    Args:
        environment: gives the spaces of observations and actions.
        hidden: widths of the hidden layers; ``()`` makes the logits linear in the observation.
        features: ``(observation) -> f[F]``, what the network sees; ``flatten`` by default.

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
    init, apply = observer(environment, hidden, (0.0,) * sum(sizes), features)

    def logits(weights: PyTree, observation: PyTree) -> list[chex.Array]:
        flat = apply(weights, observation)
        parts = jnp.split(flat, np.cumsum(sizes)[:-1])
        return [
            part.reshape(*dim.shape, len(dim.values)) for part, dim in zip(parts, dims, strict=True)
        ]

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

    def entropy(weights: PyTree, observation: PyTree) -> chex.Array:
        # Of logarithms, whose slopes are finite where a probability has become 0.
        logs = [jax.nn.log_softmax(part) for part in logits(weights, observation)]
        return -jnp.stack([(jnp.exp(log) * log).sum() for log in logs]).sum()

    return Policy(init, sample, log_prob, mode, entropy)


def observer(
    environment: Environment,
    hidden: Sequence[int],
    bias: Sequence[float],
    features: Features | None = None,
    scale: float = 0.1,
) -> tuple[Callable[[Key], PyTree], Callable[[PyTree, PyTree], chex.Array]]:
    """A dense network of observations: ``(key) -> weights`` and ``(weights, observation) -> f[]``.

    Args:
        environment: gives the space of observations.
        hidden: widths of the hidden layers.
        bias: of the outputs, at the start; ``scale`` is how far they are from it.
        features: what it sees; ``flatten`` by default.
        scale: as of ``MLP``.
    """
    space = environment.observation_space
    network = MLP(hidden=tuple(hidden), bias=tuple(bias), scale=scale)
    seen = (lambda observation: flatten(space, observation)) if features is None else features

    def init(key: Key) -> PyTree:
        example = jax.tree.map(
            lambda dim: jnp.zeros(dim.shape, float if isinstance(dim, Float) else jnp.int32), space
        )
        shape = jax.eval_shape(seen, example)
        return network.init(key, jnp.zeros(shape.shape, shape.dtype))

    def apply(weights: PyTree, observation: PyTree) -> chex.Array:
        return cast(chex.Array, network.apply(weights, seen(observation)))

    return init, apply
