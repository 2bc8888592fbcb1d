"""Draws without replacement, by arithmetic on a few random words instead of a permutation."""

import chex
import jax
import jax.numpy as jnp

UNROLLED = 32


def distinct(words: chex.Array, total: chex.Numeric) -> chex.Array:
    """Different integers below ``total`` in random order, one for each random word.

    Word ``i`` chooses among the ``total - i`` integers that words before it have left; the choices
    are the digits of a Lehmer code, and decoding them takes comparisons and additions alone:
    neither a sort nor an array of ``total`` numbers.  Every ordered selection is equally likely, up
    to ``total / 2^32``.

    Args:
        words: ``u32[..., k]``, random bits.
        total: ``i32[...]``, at least ``k``; may differ between rows and may be traced.

    Returns:
        ``i32[..., k]``.

    Example:
        >>> import jax
        >>> draw = distinct(jax.random.bits(jax.random.key(0), (5,)), 5)
        >>> sorted(draw.tolist())
        [0, 1, 2, 3, 4]
    """
    k = words.shape[-1]
    index = jnp.arange(k, dtype=jnp.int32)
    left = jnp.asarray(total, jnp.int32)[..., None] - index
    digits = (words % left.astype(jnp.uint32)).astype(jnp.int32)

    def put_back(step: chex.Array, drawn: chex.Array) -> chex.Array:
        # Later draws were counted without the integer of draw i; from it on they move up by one.
        i = k - 2 - step
        digit = jax.lax.dynamic_index_in_dim(digits, i, axis=-1)
        return drawn + ((drawn >= digit) & (index > i))

    return jax.lax.fori_loop(0, k - 1, put_back, digits, unroll=max(1, min(k - 1, UNROLLED)))
