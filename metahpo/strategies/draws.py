"""Random numbers for populations: JAX's generator, drawn in fewer and cheaper operations.

Drawing the random numbers is most of a generation's work.  ``jax.random.bits`` makes one word out
of the two that each block of Threefry-2x32 gives and runs the rounds in a loop; here both words are
used and the rounds stand in one line, which a CPU does several times as fast.  The generator is the
same: the two words of a block, combined by exclusive or, are those of ``jax.random.bits``.

A key that is drawn from is used up, as everywhere: split it first.
"""

import math

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA  # the key schedule's constant for words of 32 bits
GROUPS = 5  # of four rounds: Threefry-2x32-20


def words(key: Key, shape: tuple[int, ...]) -> tuple[chex.Array, chex.Array]:
    """Two independent ``u32[shape]`` of random bits (Salmon et al. 2011, section 4.2).

    Args:
        key: of any implementation; one that is not Threefry's gives the seed of a Threefry key.
        shape: of each of the two; fewer than 2**32 words.
    """
    first, second = _seed(key)
    keys = (first, second, first ^ second ^ jnp.uint32(PARITY))
    counter = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    x, y = jnp.broadcast_to(keys[0], shape), counter + keys[1]
    for group in range(GROUPS):
        for distance in ROTATIONS[group % 2]:
            x = x + y
            y = ((y << distance) | (y >> (32 - distance))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


def uniforms(key: Key, shape: tuple[int, ...]) -> tuple[chex.Array, chex.Array]:
    """Two independent ``f[shape]``, uniform in [0, 1): multiples of 2**-23, in f64 of 2**-32."""
    x, y = words(key, shape)
    return unit_interval(x), unit_interval(y)


def uniform(key: Key, shape: tuple[int, ...]) -> chex.Array:
    """``f[shape]``, uniform in [0, 1), of half as many blocks as ``uniforms``."""
    count = math.prod(shape)
    flat = jnp.concatenate(uniforms(key, ((count + 1) // 2,)))
    return flat[:count].reshape(shape)


def integers(key: Key, shape: tuple[int, ...], bound: chex.Numeric) -> chex.Array:
    """``i32[shape]``, uniform in ``0 ... bound - 1``; ``bound`` far below 2**23."""
    scaled = uniform(key, shape) * bound
    return jnp.minimum(scaled.astype(jnp.int32), bound - 1)


def unit_interval(bits: chex.Array) -> chex.Array:
    """Turns random bits into floats of the default type in [0, 1)."""
    if jnp.result_type(float) == jnp.float64:
        return bits.astype(jnp.float64) * 2.0**-32
    # The bits below the leading 1 of a number in [1, 2).
    return jax.lax.bitcast_convert_type((bits >> 9) | jnp.uint32(0x3F800000), jnp.float32) - 1.0


def _seed(key: Key) -> tuple[chex.Array, chex.Array]:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if typed and str(jax.random.key_impl(key)) != "threefry2x32":
        seed = jax.random.bits(key, (2,), jnp.uint32)
    else:
        seed = jax.random.key_data(key)
    return seed[0], seed[1]
