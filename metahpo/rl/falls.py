"""What the fall of a loss is worth: finite, whatever a training did."""

import chex
import jax.numpy as jnp


def capped(loss: chex.Array, initial: chex.Array, penalty: float) -> chex.Array:
    """A loss as rewards and observations see it: at most ``initial + penalty * |initial|``.

    That is also what one that is not finite counts, and what is relative to a first loss that is
    not finite is relative to 1.
    """
    initial = jnp.where(jnp.isfinite(initial), initial, 1.0)
    worst = initial + penalty * jnp.abs(initial)
    return jnp.where(jnp.isfinite(loss), jnp.minimum(loss, worst), worst)


def fall(before: chex.Array, after: chex.Array, log: bool) -> chex.Array:
    """By how much a loss, or its logarithm, has fallen."""
    return safe_log(before) - safe_log(after) if log else before - after


def safe_log(loss: chex.Array) -> chex.Array:
    """The logarithm, also of what is not positive: that of the smallest number."""
    return jnp.log(jnp.maximum(loss, jnp.finfo(loss.dtype).tiny))
