"""A2C: advantage actor-critic."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Estimate, Estimator, HParams, Key, PyTree, State, Task
from metahpo.diagnostics import gradient_info
from metahpo.rl.agents.actor_critic import (
    Batch,
    checked,
    collect,
    critic_error,
    mean_entropy,
)
from metahpo.rl.agents.score import Score, no_score, scored
from metahpo.rl.environment import Environment
from metahpo.rl.policy import Policy


class A2CMemory(NamedTuple):
    """What an A2C agent keeps: the environment's state, and what was earned."""

    state: State
    score: Score


def a2c(
    environment: Environment,
    policy: Policy,
    steps: int,
    *,
    discount: chex.Numeric = 0.99,
    decay: chex.Numeric = 0.95,
    entropy: chex.Numeric = 0.0,
    critic: chex.Numeric = 0.5,
    critic_decay: chex.Numeric | None = None,
) -> Estimator:
    """The policy gradient with a critic (Mnih et al. 2016), and generalised advantages.

    A stretch of steps, across the ends of episodes, gives the gradient of the mean over its steps
    of ``-advantage log_prob``, plus the critic's error, minus the bonus for entropy.  The tasks of
    ``meta_train`` are so many environments side by side.

    Args:
        environment: the process; its actions are those of the policy.
        policy: one with a critic, of ``with_value``.
        steps: in a stretch, at least 1.
        discount: in [0, 1].
        decay: lambda of the advantages, in [0, 1].
        entropy: weight of the policy's entropy, at least 0.
        critic: weight of half the critic's mean squared error, at least 0.
        critic_decay: lambda of what the critic learns, that of the advantages by default; a larger
            one teaches a critic fast, while a small ``decay`` keeps the noise of later steps out of
            the advantages.

    Returns:
        An Estimator whose hyperparameters are the policy's weights and whose memory is an
        ``A2CMemory``.  Its loss is minus the return of the last episode that ended; ``info`` has
        ``entropy`` and ``critic`` (its error).  A reward that is not finite spoils the update,
        which ``meta_train`` skips.

    Raises:
        ValueError: for a policy without a critic, zero steps, a discount or decay outside [0, 1],
            negative weights, and a bonus for an entropy that the policy does not tell.

    Example:
        >>> import metahpo as mh
        >>> lake = mh.rl.frozen_lake().environment
        >>> policy = mh.rl.with_value(mh.rl.softmax_policy(lake, ()), lake, ())
        >>> agent = a2c(lake, policy, steps=8)
        >>> weights = jax.jit(policy.init)(jax.random.key(0))
        >>> memory = jax.jit(agent.init)(jax.random.key(1), weights, None)
        >>> estimate, memory = jax.jit(agent.estimate)(jax.random.key(2), weights, None, memory)
        >>> int(memory.score.steps), round(float(estimate.info["entropy"]), 2)  # log 4
        (8, 1.39)
    """
    steps = checks.whole("steps", steps)
    rates = checked("a2c", policy, entropy, critic, discount, decay, critic_decay)

    def init(key: Key, weights: HParams, task: Task) -> A2CMemory:
        del weights
        return A2CMemory(jax.tree.map(jnp.asarray, environment.reset(key, task)), no_score())

    def estimate(
        key: Key, weights: HParams, task: Task, memory: A2CMemory
    ) -> tuple[Estimate, A2CMemory]:
        state, stretch, batch = collect(
            key, environment, policy, weights, steps, memory.state, task, rates
        )

        def total(weights: PyTree) -> tuple[chex.Array, tuple[chex.Array, chex.Array]]:
            error = critic_error(policy, weights, batch)
            spread = mean_entropy(policy, weights, batch.observation)
            gain = policy_gain(policy, weights, batch)
            return critic * error - gain - entropy * spread, (error, spread)

        grad, (error, spread) = jax.grad(total, has_aux=True)(weights)
        score = scored(memory.score, stretch)
        loss = -score.last
        info = {"critic": error, "entropy": spread, **gradient_info(loss, grad)}
        return Estimate(loss, grad, info), A2CMemory(state, score)

    return Estimator(init, estimate)


def policy_gain(policy: Policy, weights: PyTree, batch: Batch) -> chex.Array:
    """The mean of ``advantage log_prob``, whose gradient is the policy gradient."""
    logs = jax.vmap(policy.log_prob, (None, 0, 0))(weights, batch.observation, batch.action)
    return (logs * batch.advantage).mean()
