"""Losses of any size as numbers that a Gaussian process can explain."""

import chex
import jax.numpy as jnp

WORST = 4.0  # in widths of the better half


def compressed(loss: chex.Array, mask: chex.Array) -> chex.Array:
    """The first of ``warped``."""
    return warped(loss, mask)[0]


def warped(loss: chex.Array, mask: chex.Array) -> tuple[chex.Array, chex.Array]:
    """``f[N]``: higher is better, of mean 0 and variance 1 over what is masked; and its slopes.

    The better half keeps its distances.  Of the worse half logarithms count, and from some size on
    all are the same, as if they were infinite: so neither a penalty of 1e7 nor an offset matters.
    The order stays, and where all losses are equal all are 0.

    Args:
        loss: ``f[N]``; NaN and infinite are the worst.
        mask: ``bool[N]``, which of them there are.

    Returns:
        The numbers, 0 where nothing is masked; and ``f[N]``, their derivatives by the losses, 0
        where they do not depend on them, or no scale is known: where the better half is one loss.
    """
    finite = mask & jnp.isfinite(loss)
    order = jnp.where(finite, loss, jnp.inf)
    middle = jnp.sort(order)[jnp.maximum((mask.sum() + 1) // 2 - 1, 0)]
    middle = jnp.where(jnp.isfinite(middle), middle, jnp.where(finite, loss, -jnp.inf).max())
    away = jnp.where(finite, loss - middle, 0.0)
    better = finite & (away <= 0)
    # Relative to the largest, whose square is in range.
    largest = jnp.maximum(jnp.abs(jnp.where(better, away, 0.0)).max(), jnp.finfo(loss.dtype).tiny)
    squares = jnp.where(better, away / largest, 0.0) ** 2
    width = largest * jnp.sqrt(squares.sum() / jnp.maximum(better.sum(), 1))
    away = away / jnp.where(width > 0, width, 1.0)
    beyond = jnp.minimum(jnp.log1p(jnp.maximum(away, 0.0)), WORST)
    values = jnp.where(finite, jnp.where(better, away, beyond), WORST)
    count = jnp.maximum(mask.sum(), 1)
    centred = jnp.where(mask, values - jnp.where(mask, values, 0.0).sum() / count, 0.0)
    spread = jnp.sqrt((centred**2).sum() / count)
    spread = jnp.where(spread > 0, spread, 1.0)
    slope = jnp.where(better, 1.0, 1 / (1 + jnp.maximum(away, 0.0)))
    known = finite & (width > 0) & (better | (beyond < WORST))
    return -centred / spread, jnp.where(known, -slope / (width * spread), 0.0)
