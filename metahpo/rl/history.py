"""Observations that tell what was done before, for policies without a memory of their own."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, PyTree, State, Task
from metahpo.rl.enumeration import enumeration
from metahpo.rl.environment import Environment, Transition
from metahpo.space import Choice


class HistoryState(NamedTuple):
    """The environment's state, and the last actions ``i32[length]``, the newest at the end."""

    state: State
    actions: chex.Array


def with_history(environment: Environment, length: int, *, alone: bool = False) -> Environment:
    """The environment in which the last ``length`` actions are observed.

    Args:
        environment: whose actions are choices or whole numbers.
        length: how many actions are remembered, at least 1.
        alone: whether the history is all that is observed.

    Returns:
        An Environment that observes ``{"actions"}``, or ``{"actions", "observation"}``: the number
        of each action in the order of ``enumeration``, after the last of which comes "none yet".

    Raises:
        ValueError: for no length, or actions that are not finite.

    Example:
        >>> import jax, metahpo as mh
        >>> luby = with_history(mh.rl.luby(8).environment, length=3, alone=True)
        >>> state = luby.reset(jax.random.key(0), None)
        >>> state, _ = jax.jit(luby.step)(jax.random.key(1), state, jnp.int32(2))
        >>> luby.observe(state)["actions"].tolist()
        [6, 6, 2]
    """
    length = checks.whole("length", length)
    actions = enumeration(environment.action_space, "the space of actions")

    def reset(key: Key, task: Task) -> HistoryState:
        return HistoryState(environment.reset(key, task), jnp.full(length, actions.size, jnp.int32))

    def step(key: Key, state: HistoryState, action: PyTree) -> tuple[HistoryState, Transition]:
        new, transition = environment.step(key, state.state, action)
        history = jnp.roll(state.actions, -1).at[-1].set(actions.number(action))
        return HistoryState(new, history), transition

    def observe(state: HistoryState) -> PyTree:
        seen = {"actions": state.actions}
        return seen if alone else seen | {"observation": environment.observe(state.state)}

    space = {"actions": Choice(range(actions.size + 1), shape=(length,))}
    if not alone:
        space |= {"observation": environment.observation_space}
    return environment._replace(reset=reset, step=step, observe=observe, observation_space=space)
