"""Fitness shaping: losses turned into weights that depend on their order alone.

So the search is the same for every strictly increasing transform of the loss.  Ties share the
average of what their places would get, so that the order of the slots never matters and constant
losses give weights of exactly zero.  Losses that are not finite tie for the last places.
"""

from typing import Any

import chex
import jax.numpy as jnp
import numpy as np

# Up to this population all pairs are compared, which costs less than a sort.
MOST_COMPARED = 128


def places(loss: chex.Array, active: chex.Array | None = None) -> tuple[chex.Array, chex.Array]:
    """How many losses are better than each, and how many are equal to it, itself included.

    Args:
        loss: ``f[P]``; what is not finite is the worst.
        active: ``bool[P]``, which slots count; all by default.

    Returns:
        ``better`` and ``equal``, ``i32[P]``, of the active slots alone; 0 and 1 for the others.

    Example:
        >>> better, equal = places(jnp.array([3.0, 1.0, jnp.nan, 1.0]))
        >>> better.tolist(), equal.tolist()
        ([2, 0, 3, 0], [1, 2, 1, 2])
    """
    loss = jnp.where(jnp.isfinite(loss), loss, jnp.inf)
    if loss.shape[0] <= MOST_COMPARED:
        others = jnp.ones_like(loss, bool) if active is None else active
        better = ((loss < loss[:, None]) & others).sum(1, dtype=jnp.int32)
        equal = ((loss == loss[:, None]) & others).sum(1, dtype=jnp.int32)
    else:
        # Not a number is sorted behind infinity, so behind all active slots.
        ordered = jnp.sort(loss if active is None else jnp.where(active, loss, jnp.nan))
        better = jnp.searchsorted(ordered, loss, side="left").astype(jnp.int32)
        equal = jnp.searchsorted(ordered, loss, side="right").astype(jnp.int32) - better
    if active is None:
        return better, equal
    return jnp.where(active, better, 0), jnp.where(active, equal, 1)


def ranks(loss: chex.Array, active: chex.Array | None = None) -> chex.Array:
    """``f[P]``: the place of each loss, 0 the best, ties sharing their average; 0 where idle.

    Example:
        >>> ranks(jnp.array([3.0, 1.0, jnp.inf, 1.0])).tolist()
        [2.0, 0.5, 3.0, 0.5]
    """
    better, equal = places(loss, active)
    return better.astype(loss.dtype) + 0.5 * (equal.astype(loss.dtype) - 1.0)


def centred_ranks(loss: chex.Array, active: chex.Array | None = None) -> chex.Array:
    """``f[P]``: from 1/2 for the best to -1/2 for the worst, evenly (Salimans et al. 2017).

    They sum to zero; idle slots get 0.

    Example:
        >>> centred_ranks(jnp.array([7.0, 1.0, 2.0])).tolist()
        [-0.5, 0.5, 0.0]
    """
    count = loss.shape[0] if active is None else active.sum()
    # Halves are exact, so constant losses get exactly zero.
    twice = (count - 1) - 2.0 * ranks(loss, active)
    weights = twice / (2.0 * jnp.maximum(jnp.asarray(count, loss.dtype) - 1.0, 1.0))
    return weights if active is None else jnp.where(active, weights, 0.0)


def nes_utilities(loss: chex.Array, active: chex.Array | None = None) -> chex.Array:
    """``f[P]``: the utilities of natural evolution strategies (Wierstra et al. 2014, section 3.1).

    Place k = 1 ... n of n gets ``max(0, log(n/2 + 1) - log k)``, divided by the sum of these, minus
    ``1/n``.  They sum to zero; idle slots get 0.

    Example:
        >>> import jax
        >>> utilities = jax.jit(nes_utilities)(jnp.array([5.0, 1.0, 2.0, 9.0]))
        >>> [round(float(u), 2) for u in utilities]
        [-0.25, 0.48, 0.02, -0.25]
    """
    better, equal = places(loss, active)
    slots = loss.shape[0]
    count = slots if active is None else active.sum()
    up_to = _cumulated(slots, count, np if active is None else jnp)
    up_to = jnp.asarray(up_to, loss.dtype)
    average = (up_to[better + equal] - up_to[better]) / equal.astype(loss.dtype)
    return average if active is None else jnp.where(active, average, 0.0)


def _cumulated(slots: int, count: Any, xp: Any) -> Any:
    """``f[slots + 1]``: the utilities of the first 0, 1, ... places of ``count`` together."""
    place = xp.arange(1, slots + 1)
    raw = xp.maximum(0.0, xp.log(count / 2 + 1) - xp.log(place))
    raw = xp.where(place <= count, raw, 0.0)
    # One slot alone has a raw utility of its own; none at all must not divide by zero.
    utility = raw / xp.maximum(raw.sum(), 1e-30) - 1.0 / xp.maximum(count, 1)
    total = xp.concatenate([xp.zeros(1), xp.cumsum(utility)])
    # All places together get nothing, exactly.
    return xp.where(xp.arange(slots + 1) == count, 0.0, total)
