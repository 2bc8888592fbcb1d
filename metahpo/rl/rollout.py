"""Policies at play: stretches of episodes, and single ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, inner, lanes
from metahpo.base import Key, PyTree, State, Task
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.space_values import check_value

Act = Callable[[Key, PyTree], PyTree]
"""How to act: ``(key, observation) -> action``."""


class Trajectory(NamedTuple):
    """What happened in ``T`` steps; all with leading axis ``[T]``.

    Attributes:
        observation: what was seen before each action.
        action: what was done.
        reward: ``f[T]``.
        terminated: ``bool[T]``, see ``Transition``.
        truncated: ``bool[T]``.
        next_observation: what each action led to: where an episode ended, the last that was seen of
            it, and not the first of the next.
    """

    observation: PyTree
    action: PyTree
    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    next_observation: PyTree


def rollout(
    key: Key,
    environment: Environment,
    policy: Act,
    steps: int,
    *,
    state: State | None = None,
    task: Task | None = None,
    start: chex.Numeric = 0,
) -> tuple[State, Trajectory]:
    """So many steps, in one episode after the other.

    Where an episode ends the next one begins.  Under ``vmap`` resets are paid for only in steps in
    which an episode ends in some lane.  Going on by ``n`` and, from the state that this left and
    with ``start=n``, by ``m`` steps is going on by ``n + m``.

    Args:
        key: the randomness of policy and environment.
        environment: the process to act in.
        policy: ``(key, observation) -> action``, as ``lambda key, observation:
            policy.sample(key, weights, observation)``.
        steps: at least 1.
        state: to go on from; a new episode by default.
        task: of the episodes that begin here; each draws its own by ``environment.sample`` by
            default.
        start: the steps made before with the same key.

    Returns:
        The state to go on from, where the next episode has begun if one ended in the last step,
        and the ``Trajectory``.

    Raises:
        ValueError: for zero steps, an action or an observation that is none of its space's, and a
            step that changes the structure or shapes of the state.

    Example:
        >>> import metahpo as mh
        >>> lake = mh.rl.frozen_lake(slippery=False).environment
        >>> policy = lambda key, observation: jax.random.randint(key, (), 0, 4)
        >>> run = jax.jit(lambda key: rollout(key, lake, policy, steps=50))
        >>> state, trajectory = run(jax.random.key(0))
        >>> trajectory.reward.shape, bool(trajectory.terminated.any())
        ((50,), True)
    """
    steps = checks.whole("steps", steps)
    checks.record("environment", environment, Environment, "mh.rl.tuning_environment")
    reset_key, step_key = jax.random.split(key)

    def again(carry: Any, key: Key, task: Task) -> tuple[State, PyTree]:
        new: tuple[State, PyTree] = jax.tree.map(_like, begin(key, environment, task), carry)
        return new

    def step(carry: Any, key: Key) -> tuple[Any, Trajectory]:
        key, begin_key = jax.random.split(key)
        state, trajectory = act(environment, policy, key, *carry)
        ended = trajectory.terminated | trajectory.truncated
        after = (state, trajectory.next_observation)
        return lanes.when(ended, again, after, begin_key, task), trajectory

    if state is None:
        first = begin(reset_key, environment, task)
    else:
        first = jax.tree.map(jnp.asarray, (state, environment.observe(state)))
    check_value("an observation", environment.observation_space, first[1])
    (state, _), trajectory = jax.lax.scan(step, first, inner.step_keys(step_key, steps, start))
    return state, trajectory


def episode(
    key: Key, environment: Environment, policy: Act, steps: int, state: State
) -> tuple[State, Trajectory]:
    """One episode from a given state, of at most so many steps.

    After its end nothing happens any more: the state stays, rewards are 0 and the flags stay up.

    Args:
        key: the randomness of policy and environment.
        environment: the process to act in.
        policy: ``(key, observation) -> action``.
        steps: at least 1.
        state: where it begins, of ``environment.reset``.

    Returns:
        The last state and the ``Trajectory``; ``first_episode(trajectory)`` says which steps count.

    Raises:
        ValueError: as ``rollout``.

    Example:
        >>> import metahpo as mh
        >>> lake = mh.rl.frozen_lake(slippery=False).environment
        >>> down = lambda key, observation: jnp.int32(1)  # into the hole of the fourth row
        >>> run = jax.jit(lambda key: episode(key, lake, down, 5, lake.reset(key, None)))
        >>> run(jax.random.key(0))[1].terminated
        Array([False, False,  True,  True,  True], dtype=bool)
    """
    steps = checks.whole("steps", steps)
    checks.record("environment", environment, Environment, "mh.rl.tuning_environment")

    def step(carry: Any, key: Key) -> tuple[Any, Trajectory]:
        state, observation, flags = carry
        new, trajectory = act(environment, policy, key, state, observation)
        done = flags[0] | flags[1]
        flags = jax.tree.map(
            lambda old, now: jnp.where(done, old, now),
            flags,
            (trajectory.terminated, trajectory.truncated),
        )
        state, observation = jax.tree.map(
            lambda old, now: jnp.where(done, old, now),
            (state, observation),
            (new, trajectory.next_observation),
        )
        trajectory = trajectory._replace(
            reward=jnp.where(done, 0, trajectory.reward),
            terminated=flags[0],
            truncated=flags[1],
            next_observation=observation,
        )
        return (state, observation, flags), trajectory

    state = jax.tree.map(jnp.asarray, state)
    observation = jax.tree.map(jnp.asarray, environment.observe(state))
    check_value("an observation", environment.observation_space, observation)
    first = (state, observation, (jnp.array(False), jnp.array(False)))
    (state, _, _), trajectory = jax.lax.scan(step, first, inner.step_keys(key, steps))
    return state, trajectory


def first_episode(trajectory: Trajectory | Transition) -> chex.Array:
    """``bool[T]``: the steps up to the first end, that one included."""
    ended = trajectory.terminated | trajectory.truncated
    return jnp.cumsum(ended) - ended == 0


def begin(key: Key, environment: Environment, task: Task | None) -> tuple[State, PyTree]:
    """A new episode: its state and what is seen of it; it draws its task if there is none."""
    task_key, state_key = jax.random.split(key)
    state = environment.reset(state_key, environment.sample(task_key) if task is None else task)
    return jax.tree.map(jnp.asarray, (state, environment.observe(state)))  # type: ignore[return-value]


def act(
    environment: Environment, policy: Act, key: Key, state: State, observation: PyTree
) -> tuple[State, Trajectory]:
    """One step, whose outcome has the types of what it came from.

    Args:
        environment: the process.
        policy: ``(key, observation) -> action``.
        key: of both.
        state: to act in, of arrays.
        observation: of that state, of arrays.

    Returns:
        The new state, and the ``Trajectory`` of the step, without an axis of time.

    Raises:
        ValueError: as ``rollout``.
    """
    action_key, step_key = jax.random.split(key)
    action = policy(action_key, observation)
    check_value("an action", environment.action_space, action)
    new, transition = environment.step(step_key, state, action)
    checks.record("what a step brings", transition, Transition, "mh.rl.Transition")
    for name, value in transition._asdict().items():
        if jnp.shape(value) != ():
            raise ValueError(f"the {name} of a step must be a scalar, got {jnp.shape(value)}")
    checks.alike("an environment's step", new, state)
    new = jax.tree.map(_like, new, state)
    seen = environment.observe(new)
    checks.alike("an environment's observation after a step", seen, observation)
    seen = jax.tree.map(_like, seen, observation)
    reward = jnp.asarray(transition.reward, jnp.result_type(float, transition.reward))
    terminated = jnp.asarray(transition.terminated, bool)
    truncated = jnp.asarray(transition.truncated, bool)
    return new, Trajectory(observation, action, reward, terminated, truncated, seen)


def _like(new: chex.Array, old: chex.Array) -> chex.Array:
    """The new one, which must keep the type of the old one."""
    new = jnp.asarray(new)
    if new.dtype != old.dtype:
        raise ValueError(
            f"an environment must keep the types of its state, got {new.dtype} for {old.dtype}"
        )
    return new
