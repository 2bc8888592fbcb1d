"""REINFORCE with rewards-to-go and a leave-one-out baseline."""

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Estimate, Estimator, HParams, Key, PyTree, State, Task
from metahpo.diagnostics import gradient_info, no_memory
from metahpo.rl.agents.actor_critic import check_entropy
from metahpo.rl.environment import Environment
from metahpo.rl.policy import Policy
from metahpo.rl.rollout import Trajectory, episode, first_episode


def reinforce(
    environment: Environment,
    policy: Policy,
    steps: int,
    rollouts: int,
    *,
    entropy: chex.Numeric = 0.0,
) -> Estimator:
    """The policy gradient from ``rollouts`` episodes that start in the same state.

    The gradient is that of minus the expected return (Williams 1992; rewards-to-go as in
    Sutton et al. 2000), where every reward-to-go is compared with the mean of the other rollouts'
    at the same time, which keeps the estimate unbiased (Kool et al. 2019, eq. 8).  A baseline that
    is learned instead is a critic: ``a2c`` with whole episodes and ``decay=1``.

    Args:
        environment: the process to act in.
        policy: the distribution over actions; the estimator's hyperparameters are its weights.
        steps: the most actions in an episode, at least 1; fewer where it ends before.
        rollouts: episodes in an estimate, at least 2.
        entropy: weight of the policy's entropy, summed over an episode's steps and with the states
            taken as they come, at least 0; the loss does not count it.

    Returns:
        An Estimator without a memory, whose loss is minus the mean return.  ``info``:
        ``standard_error`` f[] of that loss, ``entropy`` f[] (of the policy, a step, estimated from
        the actions taken), ``grad_norm``, ``finite``, and ``state``: the environments' final
        states, leading axis ``[rollouts]``.

    Raises:
        ValueError: for zero steps, fewer than 2 rollouts, a negative weight, and a bonus for an
            entropy that the policy does not tell.

    Example:
        >>> import metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> space = {"x": mh.Float(0.0, 1.0)}
        >>> environment = mh.rl.tuning_environment(problem, space, segment_steps=1, segments=2)
        >>> policy = mh.rl.softmax_policy(environment)
        >>> estimator = reinforce(environment, policy, steps=2, rollouts=8)
        >>> weights = jax.jit(policy.init)(jax.random.key(0))
        >>> estimate, _ = jax.jit(estimator.estimate)(jax.random.key(1), weights, None, ())
        >>> bool(estimate.info["finite"])
        True
    """
    steps = checks.whole("steps", steps)
    rollouts = checks.whole("rollouts", rollouts, at_least=2)  # the baseline leaves one out
    checks.at_least("entropy", entropy, 0)
    check_entropy(policy, entropy)
    bonus = policy.entropy if not checks.known(entropy) or entropy else None

    def play(key: Key, weights: PyTree, state: State) -> tuple[State, Trajectory]:
        def act(key: Key, observation: PyTree) -> PyTree:
            return policy.sample(key, weights, observation)

        return episode(key, environment, act, steps, state)

    def estimate(key: Key, weights: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        start_key, rollout_key = jax.random.split(key)
        start = environment.reset(start_key, task)
        state, played = jax.vmap(play, (0, None, None))(
            jax.random.split(rollout_key, rollouts), weights, start
        )
        returns = played.reward.sum(axis=1)
        counts = jax.vmap(first_episode)(played)
        advantages = _advantages(played.reward)

        def surrogate(weights: HParams) -> tuple[chex.Array, chex.Array]:
            over_time = jax.vmap(policy.log_prob, (None, 0, 0))
            logs = jax.vmap(over_time, (None, 0, 0))(weights, played.observation, played.action)
            gains = logs * advantages
            if bonus is not None:
                each = jax.vmap(jax.vmap(bonus, (None, 0)), (None, 0))(weights, played.observation)
                gains += entropy * each
            return -jnp.where(counts, gains, 0).sum(axis=1).mean(), logs

        grad, logs = jax.grad(surrogate, has_aux=True)(weights)
        loss = -returns.mean()
        info = {
            "state": state,
            "standard_error": returns.std(ddof=1) / rollouts**0.5,
            "entropy": -jnp.where(counts, logs, 0).sum() / counts.sum(),
            **gradient_info(loss, grad),
        }
        return Estimate(loss, grad, info), memory

    return Estimator(no_memory, estimate)


def _advantages(rewards: chex.Array) -> chex.Array:
    """Rewards-to-go ``f[R, T]`` minus their mean over the other rollouts."""
    togo = jnp.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    others = (togo.sum(axis=0) - togo) / (len(togo) - 1)
    return togo - others
