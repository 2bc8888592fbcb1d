"""Random numbers for populations: JAX's generator, used more cheaply.

Drawing the random numbers is most of a generation's work.  ``jax.random.bits`` makes one word out
of the two that each block of Threefry-2x32 gives; here both are used.  The blocks are computed as
one flat array in a short loop: a loop is the only boundary at which a compiler for CPUs certainly
stops, else it computes the blocks again for every use, and along a population's short last axis.
The generator is the same: the two words of a block, combined by exclusive or, are those of
``jax.random.bits``.

A key that is drawn from is used up, as everywhere: split it first.
"""

import math
from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key

Block: TypeAlias = tuple[chex.Array, chex.Array]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA  # the key schedule's constant for words of 32 bits


def words(key: Key, shape: tuple[int, ...]) -> tuple[chex.Array, chex.Array]:
    """Two independent ``u32[shape]`` of random bits: Threefry-2x32-20 (Salmon et al. 2011).

    Args:
        key: of any implementation; one that is not Threefry's gives the seed of a Threefry key.
        shape: of each of the two; fewer than 2**32 words.
    """
    first, second = _seed(key)
    keys = jnp.stack([first, second, first ^ second ^ jnp.uint32(PARITY)])

    def rounds(group: chex.Numeric, distances: tuple[int, ...], block: Block) -> Block:
        x, y = block
        for distance in distances:
            x = x + y
            y = ((y << distance) | (y >> (32 - distance))) ^ x
        count = jnp.asarray(group + 1, jnp.uint32)
        return x + keys[(group + 1) % 3], y + keys[(group + 2) % 3] + count

    def two_groups(i: chex.Array, block: Block) -> Block:
        block = rounds(2 * i + 1, ROTATIONS[1], block)
        return rounds(2 * i + 2, ROTATIONS[0], block)

    count = math.prod(shape)
    block = jnp.broadcast_to(first, count), jnp.arange(count, dtype=jnp.uint32) + second
    x, y = jax.lax.fori_loop(0, 2, two_groups, rounds(0, ROTATIONS[0], block))
    return x.reshape(shape), y.reshape(shape)


def uniforms(key: Key, shape: tuple[int, ...]) -> tuple[chex.Array, chex.Array]:
    """Two independent ``f[shape]``, uniform in [0, 1): multiples of 2**-23, in f64 of 2**-32."""
    x, y = words(key, shape)
    return unit_interval(x), unit_interval(y)


def weights(key: Key, shape: tuple[int, ...]) -> tuple[chex.Array, chex.Array]:
    """Two independent ``f[shape]``, uniform among the middles of 2**16 equal parts of [0, 1].

    Half the work of ``uniforms``, for factors whose tails and last digits do not matter.
    """
    count = math.prod(shape)
    bits = jnp.concatenate(words(key, ((count + 1) // 2,)))[:count].reshape(shape)
    return _middle(bits >> 16), _middle(bits & 0xFFFF)


def _middle(half: chex.Array) -> chex.Array:
    # By way of signed integers, which a CPU turns into floats in one instruction.
    return (half.astype(jnp.int32).astype(jnp.result_type(float)) + 0.5) * 2.0**-16


def uniform(key: Key, shape: tuple[int, ...]) -> chex.Array:
    """``f[shape]``, uniform in [0, 1), of half as many blocks as ``uniforms``."""
    count = math.prod(shape)
    flat = jnp.concatenate(uniforms(key, ((count + 1) // 2,)))
    return flat[:count].reshape(shape)


def integers(key: Key, shape: tuple[int, ...], bound: chex.Numeric) -> chex.Array:
    """``i32[shape]``, uniform in ``0 ... bound - 1``; ``bound`` far below 2**23."""
    scaled = uniform(key, shape) * bound
    return jnp.minimum(scaled.astype(jnp.int32), bound - 1)


def normal(u: chex.Array) -> chex.Array:
    """The standard normal quantile at ``u`` in [0, 1), moved off 0 by half of its resolution."""
    half_step = 2.0**-33 if u.dtype == jnp.float64 else 2.0**-24
    return math.sqrt(2.0) * jax.lax.erf_inv(2.0 * (u + half_step) - 1.0)


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
