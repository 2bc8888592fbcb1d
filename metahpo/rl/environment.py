"""Markov decision processes as records of pure functions."""

from collections.abc import Callable
from typing import NamedTuple

import chex

from metahpo import space as spaces
from metahpo._deprecation import warn
from metahpo.base import Key, PyTree, State, Task
from metahpo.space import Choice, Space


class Transition(NamedTuple):
    """What a step brought.

    Attributes:
        reward: ``f[]``.
        terminated: ``bool[]``, whether the process has ended: nothing is to come after it.
        truncated: ``bool[]``, whether the episode was cut off although the process would go on, as
            by a limit of time that is not observed: what would come is still worth something.
    """

    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array


def no_task(key: Key) -> Task:
    """The ``sample`` of environments that are always the same: ``None``."""
    del key


class Environment(NamedTuple):
    """A Markov decision process: a few pure functions, and the spaces that they act between.

    The state keeps the task that it was made for.  A step never resets: the state after an end is
    the last one of its episode, and can be observed.  ``rollout`` begins anew where that is due.

    Attributes:
        reset: ``(key, task) -> state``, how an episode begins.
        step: ``(key, state, action) -> (state, Transition)``.
        observe: ``(state) -> observation``, what the policy sees, of ``observation_space``.
        action_space: a space of the library: a ``Choice`` is a discrete action, given by its
            index, a dict of them or one with a shape is several at once, and a ``Float`` with a
            shape is a box (static).
        observation_space: of the same kind (static).
        sample: ``(key) -> task``.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> def step(key, state, action):  # who goes right three times arrives
        ...     state = jnp.clip(state + 2 * action - 1, 0, 3)
        ...     return state, Transition(-jnp.ones(()), state == 3, jnp.array(False))
        >>> corridor = Environment(
        ...     reset=lambda key, task: jnp.int32(0),
        ...     step=step,
        ...     observe=lambda state: state,
        ...     action_space=mh.Choice(("left", "right")),
        ...     observation_space=mh.Choice(range(4)),
        ... )
        >>> state, transition = corridor.step(jax.random.key(0), jnp.int32(2), jnp.int32(1))
        >>> int(state), float(transition.reward), bool(transition.terminated)
        (3, -1.0, True)
    """

    reset: Callable[[Key, Task], State]
    step: Callable[[Key, State, PyTree], tuple[State, Transition]]
    observe: Callable[[State], PyTree]
    action_space: Space
    observation_space: Space
    sample: Callable[[Key], Task] = no_task

    @property
    def observations(self) -> int:
        """The old spelling of ``space.size(observation_space)``."""
        warn("Environment.observations is now space.size(environment.observation_space)")
        return spaces.size(self.observation_space)

    @property
    def decisions(self) -> int:
        """The old spelling of ``space.size(action_space)``."""
        warn("Environment.decisions is now space.size(environment.action_space)")
        return spaces.size(self.action_space)

    @property
    def choices(self) -> int:
        """The old spelling of ``len(action_space.values)``."""
        warn("Environment.choices is now len(environment.action_space.values)")
        assert isinstance(self.action_space, Choice), "only a single Choice has one number of them"
        return len(self.action_space.values)
