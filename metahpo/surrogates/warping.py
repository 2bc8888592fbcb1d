"""Losses of any size as numbers that a Gaussian process can explain."""

import chex
import jax.numpy as jnp
from jax.scipy.special import ndtri


def half_ranked(loss: chex.Array, mask: chex.Array) -> chex.Array:
    """``f[N]``: higher is better, of mean 0 and variance 1 over what is masked.

    The better half keeps its distances; of the worse half, and of losses that are not finite, ranks
    alone count, as quantiles of a normal distribution as wide as the better half (Song, Zhang,
    Chen et al., the Vizier Gaussian process bandit algorithm, 2024, section 3.2).  So neither a
    penalty of 1e7 nor an offset matters, and a better half of equal losses is no harm.

    Args:
        loss: ``f[N]``; NaN and infinite are the worst.
        mask: ``bool[N]``, which of them there are.
    """
    finite = mask & jnp.isfinite(loss)
    count = mask.sum()
    order = jnp.where(finite, loss, jnp.inf)
    # Equal losses share the mean of their ranks.
    below = ((order[None] < order[:, None]) & mask).sum(1)
    equal = ((order[None] == order[:, None]) & mask).sum(1)
    rank = below + (equal - 1) / 2
    middle = jnp.sort(jnp.where(mask, order, jnp.inf))[jnp.maximum((count + 1) // 2 - 1, 0)]
    middle = jnp.where(jnp.isfinite(middle), middle, jnp.where(finite, loss, -jnp.inf).max())
    good = finite & (loss <= middle)
    away = jnp.where(good, loss - middle, 0.0)
    largest = jnp.maximum(jnp.abs(away).max(), jnp.finfo(loss.dtype).tiny)
    away = away / largest  # whose squares are in range
    width = jnp.sqrt((away**2).sum() / jnp.maximum(good.sum(), 1))
    near = away / jnp.where(width > 0, width, 1.0)
    quantile = (rank + 0.5) / jnp.maximum(count, 1)
    del quantile
    beyond = jnp.where(finite & ~good, loss - middle, 0.0) / largest / jnp.where(width > 0, width, 1.0)
    far = jnp.where(finite, jnp.minimum(jnp.log1p(beyond), 4.0), 4.0)
    return -standardised(jnp.where(good, near, far), mask)


def standardised(values: chex.Array, mask: chex.Array) -> chex.Array:
    """``f[N]`` of mean 0 and variance 1 over what is masked, 0 elsewhere."""
    count = jnp.maximum(mask.sum(), 1)
    centred = jnp.where(mask, values - jnp.where(mask, values, 0.0).sum() / count, 0.0)
    spread = jnp.sqrt((centred**2).sum() / count)
    return centred / jnp.where(spread > 0, spread, 1.0)
