"""Luby: guess a sequence that says how long the next run should be."""

from typing import Literal

import chex
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Key, Task
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.exact.finite import table
from metahpo.rl.exact.record import Exact
from metahpo.space import Choice, Int

Version = Literal["lengthening", "fixed"]
_MOST_STEPS = 64
_ACTIONS = {"lengthening": 6, "fixed": 7}


def luby(length: int = 8, version: Version = "lengthening") -> Exact:
    """Names the logarithms of Luby's sequence 1, 1, 2, 1, 1, 2, 4, ... one after the other.

    A miss costs 1.  As published (Biedenkapp et al. 2020, ECAI) a miss also lengthens the episode
    by its distance from the target, up to 64 steps, and there are 6 actions; in DACBench 0.5.6 the
    length is fixed and there are 7.

    Args:
        length: of the episode without a miss, up to 64.
        version: ``"lengthening"`` or ``"fixed"``.

    Returns:
        An ``Exact``; observations are the time and what remains of the episode as it looks now,
        and the tables of ``value`` go over the 64 times.

    Raises:
        ValueError: for another version, or a length that is not in 1 ... 64.

    Example:
        >>> luby(16).static(), luby(16, "fixed").static(), luby(16).optimal()
        (-26.0, -7.0, 0.0)
    """
    checks.one_of("version", version, _ACTIONS)
    length, actions = checks.whole("length", length), _ACTIONS[version]
    if length > _MOST_STEPS:
        raise ValueError(f"length must be at most {_MOST_STEPS}, got {length}")
    target = np.array([_luby(i + 1).bit_length() - 1 for i in range(_MOST_STEPS)], np.int32)
    lengthens = version == "lengthening"

    def reset(key: Key, task: Task) -> tuple[chex.Array, chex.Array]:
        del key, task
        return jnp.int32(0), jnp.int32(length)

    def step(
        key: Key, state: tuple[chex.Array, chex.Array], action: chex.Array
    ) -> tuple[tuple[chex.Array, chex.Array], Transition]:
        del key
        time, end = state
        miss = jnp.abs(jnp.asarray(target)[time] - action)
        end = jnp.minimum(end + lengthens * miss, _MOST_STEPS).astype(jnp.int32)
        reward = -(miss > 0).astype(float)
        return (time + 1, end), Transition(reward, time + 1 >= end, jnp.array(False))

    def observe(state: tuple[chex.Array, chex.Array]) -> dict[str, chex.Array]:
        return {"time": state[0], "remaining": jnp.maximum(state[1] - state[0], 0)}

    def value(policy: np.ndarray) -> float:
        chance = table(policy, _MOST_STEPS, actions)
        worth = np.zeros((_MOST_STEPS + 1, _MOST_STEPS + 1))  # by time and end
        for time in reversed(range(_MOST_STEPS)):
            miss = np.abs(target[time] - np.arange(actions))
            for end in range(time + 1, _MOST_STEPS + 1):
                ends = np.minimum(end + lengthens * miss, _MOST_STEPS)
                worth[time, end] = chance[time] @ (worth[time + 1, ends] - (miss > 0))
        return float(worth[0, length])

    seen = {"time": Int(0, _MOST_STEPS), "remaining": Int(0, _MOST_STEPS)}
    return Exact(
        Environment(reset, step, observe, Choice(range(actions)), seen),
        optimal=lambda: value(target),
        static=lambda: max(value(np.full(_MOST_STEPS, a)) for a in range(actions)),
        random=lambda: value(np.full((_MOST_STEPS, actions), 1 / actions)),
        value=value,
    )


def _luby(i: int) -> int:
    """The i-th number of the sequence, from 1 (Luby, Sinclair & Zuckerman 1993)."""
    k = i.bit_length()
    return 2 ** (k - 1) if i == 2**k - 1 else _luby(i - 2 ** (k - 1) + 1)
