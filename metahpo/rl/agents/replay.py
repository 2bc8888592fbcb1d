"""A replay buffer: the last steps, in order, in arrays of fixed size.

Steps are written in place, by an index and without a condition: under ``vmap`` a ``cond`` would
become a choice between two whole buffers.  The steps of an episode stand one behind the other, so
returns of several steps are put together when they are drawn, whatever their number.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key, PyTree
from metahpo.rl.rollout import Trajectory


class Replay(NamedTuple):
    """The last steps.

    Attributes:
        steps: a ``Trajectory`` of ``[capacity]`` steps; a reward that was not finite is NaN.
        written: ``i32[]``, how many steps were ever written.
    """

    steps: Trajectory
    written: chex.Array


class Sample(NamedTuple):
    """Stretches of ``n`` steps that were drawn, as single steps; all ``[batch]``.

    Attributes:
        observation: before the first action.
        action: the first.
        reward: ``f``, the discounted sum of the stretch's rewards.
        discount: ``f``, of the value of ``next_observation``; 0 after a termination.
        next_observation: after the stretch, or where its episode ended.
        valid: ``bool``, whether all rewards were finite; without it the reward is 0.
    """

    observation: PyTree
    action: PyTree
    reward: chex.Array
    discount: chex.Array
    next_observation: PyTree
    valid: chex.Array


def empty(steps: Trajectory, capacity: int) -> Replay:
    """Room for steps of the shapes of some ``[T]``."""
    blank = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype), steps)
    return Replay(blank, jnp.zeros((), jnp.int32))


def written(replay: Replay, steps: Trajectory) -> Replay:
    """With ``[T]`` more steps, in place of the oldest; ``T`` divides the capacity."""
    steps = steps._replace(reward=jnp.where(jnp.isfinite(steps.reward), steps.reward, jnp.nan))
    at = replay.written % len(replay.steps.reward)
    kept = jax.tree.map(
        lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), at, 0),
        replay.steps,
        steps,
    )
    return Replay(kept, replay.written + len(steps.reward))


def drawn(key: Key, replay: Replay, batch: int, n: int, discount: chex.Numeric) -> Sample:
    """``batch`` stretches of ``n`` steps, with replacement; any of them where too few are there.

    Args:
        key: decides which.
        replay: the buffer, with at least ``n`` steps.
        batch: how many.
        n: the length, at least 1, shorter where an episode ends.
        discount: in [0, 1].
    """
    there = jnp.minimum(replay.written, len(replay.steps.reward))
    halves = 2, (batch + 1) // 2
    first = jax.random.randint(key, halves, 0, jnp.maximum(there - n + 1, 1))
    first += replay.written - there

    # In a loop, as XLA would else write once more where it reads, into a copy of the buffer.
    def half(first: chex.Array) -> Sample:
        return _stretches(replay.steps, first, n, discount)

    both = jax.lax.map(half, first)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:batch], both)


def _stretches(steps: Trajectory, first: chex.Array, n: int, discount: chex.Numeric) -> Sample:
    """Those that begin with the steps of the numbers ``first``."""
    rows = (first[:, None] + jnp.arange(n)) % len(steps.reward)
    reward, terminated, truncated = (
        leaf[rows] for leaf in (steps.reward, steps.terminated, steps.truncated)
    )
    ended = terminated | truncated
    within = jnp.cumsum(ended, axis=1) - ended == 0  # up to the first end, that one included
    powers = jnp.asarray(discount, reward.dtype) ** jnp.arange(n)
    total = jnp.where(within, powers * reward, 0).sum(axis=1)
    length = within.sum(axis=1)
    over = (within & terminated).any(axis=1)
    last = jnp.take_along_axis(rows, length[:, None] - 1, axis=1)[:, 0]
    valid = jnp.isfinite(total)
    return Sample(
        jax.tree.map(lambda x: x[rows[:, 0]], steps.observation),
        jax.tree.map(lambda x: x[rows[:, 0]], steps.action),
        jnp.where(valid, total, 0),
        jnp.where(over, 0, jnp.asarray(discount, reward.dtype) ** length),
        jax.tree.map(lambda x: x[last], steps.next_observation),
        valid,
    )
