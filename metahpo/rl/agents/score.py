"""What an agent earned, kept from one update to the next."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo.rl.environment import Transition
from metahpo.rl.rollout import Trajectory


class Score(NamedTuple):
    """Returns of an agent's episodes.

    Attributes:
        running: ``f[]``, what the episode under way has brought.
        last: ``f[]``, the return of the last episode that ended; 0 before one has.
        episodes: ``i32[]``, how many have ended.
        steps: ``i32[]``, steps made.
        spoiled: ``i32[]``, rewards that were not finite.
    """

    running: chex.Array
    last: chex.Array
    episodes: chex.Array
    steps: chex.Array
    spoiled: chex.Array


def no_score() -> Score:
    """Before the first step."""
    zero, none = jnp.zeros(()), jnp.zeros((), jnp.int32)
    return Score(zero, zero, none, none, none)


def scored(score: Score, steps: Trajectory | Transition) -> Score:
    """After more steps, all ``[T]``."""

    def add(score: Score, step: Any) -> tuple[Score, None]:
        reward, ended = step
        finite = jnp.isfinite(reward)
        total = score.running + jnp.where(finite, reward, 0).astype(score.running.dtype)
        return Score(
            jnp.where(ended, 0, total),
            jnp.where(ended, total, score.last),
            score.episodes + ended,
            score.steps + 1,
            score.spoiled + ~finite,
        ), None

    return jax.lax.scan(add, score, (steps.reward, steps.terminated | steps.truncated))[0]
