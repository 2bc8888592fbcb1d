"""Dropout whose rate may be tuned."""

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key


def dropout(key: Key, x: chex.Array, rate: chex.Numeric) -> chex.Array:
    """Leaves out a share of the entries and scales the others up, for a rate that may be traced.

    flax compares the rate with 0 and 1, which a traced number does not allow.  The derivative with
    respect to the rate is that of the scale alone, as which entries are left out has none.

    Args:
        key: draws what is left out.
        x: ``f[...]``.
        rate: the probability of being left out, in [0, 1]; with 1 all is zero.

    Example:
        >>> x = dropout(jax.random.key(0), jnp.ones(1000), 0.5)
        >>> sorted(set(x.tolist()))
        [0.0, 2.0]
    """
    kept = jax.random.uniform(key, x.shape) >= rate
    some = jnp.asarray(rate) < 1
    scaled = x / jnp.where(some, 1 - rate, 1).astype(x.dtype)
    return jnp.where(kept & some, scaled, jnp.zeros_like(x))
