"""Markov decision processes as records of pure functions."""

from collections.abc import Callable
from typing import NamedTuple

import chex

from metahpo.base import Key, State, Task


class Environment(NamedTuple):
    """A Markov decision process with factored discrete actions.

    Attributes:
        reset: ``(key, task) -> state``.
        step: ``(key, task, state, action) -> (state, reward f[])``.
        observe: ``(task, state) -> f[observations]``, what the policy sees.
        observations: length of an observation (static).
        decisions: an action is ``i32[decisions]`` (static).
        choices: every entry of an action is in ``0 ... choices - 1`` (static).
    """

    reset: Callable[[Key, Task], State]
    step: Callable[[Key, Task, State, chex.Array], tuple[State, chex.Array]]
    observe: Callable[[Task, State], chex.Array]
    observations: int
    decisions: int
    choices: int
