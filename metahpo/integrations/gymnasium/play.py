"""``rl.rollout`` cut into its steps, for whoever chooses the actions outside of the program."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key, PyTree, State, Task
from metahpo.rl.environment import Environment
from metahpo.rl.rollout import Trajectory, act, begin

_NEXT = 2  # none of the numbers by which ``begin`` splits a key


class Play(NamedTuple):
    """A rollout under way.

    Attributes:
        key: of all steps.
        time: ``i32[]``, steps made.
        state: the environment's.
        observation: of the state.
        next_key: of the episode that comes after this one.
    """

    key: Key
    time: chex.Array
    state: State
    observation: PyTree
    next_key: Key


def started(environment: Environment, seed: chex.Array, task: Task | None) -> Play:
    """Where ``rl.rollout`` of the seed's key begins."""
    reset_key, step_key = jax.random.split(jax.random.key(seed))
    state, observation = begin(reset_key, environment, task)
    return Play(step_key, jnp.int32(0), state, observation, jax.random.fold_in(reset_key, _NEXT))


def stepped(environment: Environment, play: Play, action: PyTree) -> tuple[Play, Trajectory]:
    """The next step of ``rl.rollout``, which does not reset."""
    key, next_key = jax.random.split(jax.random.fold_in(play.key, play.time))
    state, step = act(environment, lambda key, seen: action, key, play.state, play.observation)
    return Play(play.key, play.time + 1, state, step.next_observation, next_key), step


def again(environment: Environment, play: Play, task: Task | None) -> Play:
    """A new episode, that of ``rl.rollout`` after an end; another one if it is asked for again."""
    state, observation = begin(play.next_key, environment, task)
    next_key = jax.random.fold_in(play.next_key, _NEXT)
    return play._replace(state=state, observation=observation, next_key=next_key)
