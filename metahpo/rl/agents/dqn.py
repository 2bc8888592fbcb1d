"""DQN: action values from a replay buffer, with a slow copy of the network to aim at."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Estimate, Estimator, HParams, Key, PyTree, State, Task
from metahpo.diagnostics import gradient_info
from metahpo.rl.agents.replay import Replay, Sample, drawn, empty, written
from metahpo.rl.agents.score import Score, no_score, scored
from metahpo.rl.enumeration import enumeration
from metahpo.rl.environment import Environment
from metahpo.rl.exploration import Explore, draw
from metahpo.rl.policy import Policy
from metahpo.rl.rollout import Trajectory, rollout


class DQNMemory(NamedTuple):
    """What a DQN agent keeps.

    Attributes:
        state: of the environment.
        replay: the last steps.
        target: weights that follow those of the policy.
        score: what was earned.
    """

    state: State
    replay: Replay
    target: PyTree
    score: Score


def dqn(
    environment: Environment,
    policy: Policy,
    explore: Explore,
    *,
    steps: int = 1,
    capacity: int = 10_000,
    batch: int = 32,
    start: int | None = None,
    n: int = 3,
    double: bool = True,
    discount: chex.Numeric = 0.99,
    follow: chex.Numeric = 0.01,
) -> Estimator:
    """Deep Q-learning (Mnih et al. 2015): steps, then the gradient of a minibatch of earlier ones.

    The loss of a minibatch is half the mean squared error of the values of the actions taken.
    Their targets are the rewards of ``n`` steps and the best value after them (Watkins's Q without
    a correction for exploration, as in Hessel et al. 2018), which terminations end and truncations
    do not.  With ``double`` the policy's weights choose that action and the slow copy values it
    (van Hasselt et al. 2016); ``rl.value_policy(..., duelling=True)`` is the duelling network.
    Under ``vmap`` and in a run the buffer is written in place.

    Args:
        environment: the process, whose actions are choices.
        policy: one with ``action_values``, of ``value_policy`` or ``table_policy``.
        explore: how the agent acts; its ``time`` is the number of steps.
        steps: made before an update; must divide ``capacity``.
        capacity: of the buffer, in steps.
        batch: stretches in a minibatch.
        start: steps before the first update, ``batch + n`` by default, at least ``n``; until then
            the gradient is zero.
        n: steps of a target, at least 1; with the 3 of Hessel et al. rewards reach earlier steps
            three times as fast as with 1.
        double: see above.
        discount: in [0, 1].
        follow: the share of the way to the policy's weights that the slow copy goes in an
            estimate, in [0, 1]; 1 is no slow copy.

    Returns:
        An Estimator whose hyperparameters are the policy's weights and whose memory is a
        ``DQNMemory``.  Its loss is minus the return of the last episode that ended; ``info`` has
        ``error``, the loss of the minibatch.  Stretches with a reward that is not finite are left
        out; ``score.spoiled`` of the memory counts these rewards.

    Raises:
        ValueError: for a policy without action values, zero steps, a buffer that is smaller than a
            minibatch or than ``start`` or that ``steps`` do not divide, a discount or ``follow``
            outside [0, 1], and weights whose values are not those of the actions.

    Example:
        >>> import optax, metahpo as mh
        >>> lake = mh.rl.frozen_lake(slippery=False).environment
        >>> policy = mh.rl.value_policy(lake, (16,), duelling=True)
        >>> agent = dqn(lake, policy, mh.rl.epsilon_greedy(1.0), steps=4, capacity=400)
        >>> problem = mh.problems.function(lambda weights: 0.0)
        >>> result = mh.meta_train(
        ...     jax.random.key(0), problem, agent, policy.init(jax.random.key(1)),
        ...     optax.adam(1e-3), rounds=50, tasks=1,
        ... )
        >>> int(result.state.memory.score.steps[0])
        200
    """
    steps, capacity, batch, n = checks.counts(steps=steps, capacity=capacity, batch=batch, n=n)
    start = checks.whole("start", batch + n if start is None else start, at_least=n)
    if capacity < max(batch, start) or capacity % steps:
        raise ValueError(
            f"capacity must be a multiple of {steps=}, and at least {batch=} and {start=}, "
            f"got {capacity}"
        )
    checks.probability("discount", discount)
    checks.probability("follow", follow)
    values = policy.action_values
    if values is None:
        raise ValueError("dqn needs a policy with action_values, as value_policy makes it")
    actions = enumeration(environment.action_space, "the space of actions")

    def play(
        key: Key, weights: PyTree, task: Task, state: State, time: chex.Array
    ) -> tuple[State, Trajectory]:
        def act(key: Key, observation: PyTree) -> PyTree:
            each = values(weights, observation)
            if each.shape != (actions.size,):
                raise ValueError(f"action_values must be f[{actions.size}], got {each.shape}")
            return actions.value(draw(key, explore(each, None, time)))

        return rollout(key, environment, act, steps, state=state, task=task)

    def init(key: Key, weights: HParams, task: Task) -> DQNMemory:
        state = jax.tree.map(jnp.asarray, environment.reset(key, task))
        score = no_score()
        _, shapes = jax.eval_shape(play, key, weights, task, state, score.steps)
        target = jax.tree.map(jnp.asarray, weights)
        return DQNMemory(state, empty(shapes, capacity), target, score)

    def estimate(
        key: Key, weights: HParams, task: Task, memory: DQNMemory
    ) -> tuple[Estimate, DQNMemory]:
        play_key, draw_key = jax.random.split(key)
        state, stretch = play(play_key, weights, task, memory.state, memory.score.steps)
        replay = written(memory.replay, stretch)
        sample = drawn(draw_key, replay, batch, n, discount)
        goals = targets(policy, sample, weights, memory.target, double)
        ready = replay.written >= start

        def error(weights: PyTree) -> chex.Array:
            each = jax.vmap(values, (None, 0))(weights, sample.observation)
            taken = jax.vmap(actions.number)(sample.action)
            chosen = jnp.take_along_axis(each, taken[:, None], axis=1)[:, 0]
            squares = jnp.where(sample.valid & ready, (goals - chosen) ** 2, 0)
            return 0.5 * squares.mean()

        value, grad = jax.value_and_grad(error)(weights)
        target = jax.tree.map(
            lambda slow, fast: (slow + follow * (fast - slow)).astype(slow.dtype),
            memory.target,
            weights,
        )
        score = scored(memory.score, stretch)
        loss = -score.last
        info = {"error": value, **gradient_info(loss, grad)}
        return Estimate(loss, grad, info), DQNMemory(state, replay, target, score)

    return Estimator(init, estimate)


def targets(
    policy: Policy, sample: Sample, weights: PyTree, target: PyTree, double: bool
) -> chex.Array:
    """``f[batch]``: what the actions were worth; ``weights`` choose and ``target`` values."""
    assert policy.action_values is not None
    values = jax.vmap(policy.action_values, (None, 0))
    slow = values(target, sample.next_observation)
    chooser = values(weights, sample.next_observation) if double else slow
    best = jnp.take_along_axis(slow, chooser.argmax(axis=1)[:, None], axis=1)[:, 0]
    return jax.lax.stop_gradient(sample.reward + sample.discount * best)
