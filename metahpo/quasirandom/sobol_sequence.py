"""Sobol's sequence, whole or scrambled (Sobol 1967; Joe & Kuo 2008; Matousek 1998).

Point ``n`` is the exclusive or of the direction numbers at which the Gray code of ``n`` has a bit,
in every dimension (Antonov & Saleev 1979), so any stretch of the sequence is computed by itself.
Of every ``2^m`` points from a multiple of ``2^m`` on, each of the ``2^m`` equal parts of every axis
holds one.

``sobol_directions.npz`` has the primitive polynomials and first direction numbers of S. Joe and
F. Y. Kuo's ``new-joe-kuo-6.21201`` (BSD licence) for the first 1,024 dimensions.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Key

BITS = 30
"""Of a coordinate: the sequence has ``2^30`` points."""
LARGEST_SIZE = 1024
"""Dimensions."""
_FILE = Path(__file__).with_name("sobol_directions.npz")


class Sobol(NamedTuple):
    """A sequence.

    Attributes:
        directions: ``u32[D, 30]``, the direction numbers; the first halves the axis.
        shift: ``u32[D]``, applied to every point by exclusive or.
    """

    directions: chex.Array
    shift: chex.Array


def directions(size: int) -> Sobol:
    """The sequence of ``size`` dimensions as it is published; its first point is 0.

    Raises:
        ValueError: for less than 1 or more than 1,024 dimensions.

    Example:
        >>> as_fractions(points(directions(2), 0, 3)).tolist()
        [[0.0, 0.0], [0.5, 0.5], [0.75, 0.25]]
    """
    size = checks.whole("size", size)
    if size > LARGEST_SIZE:
        raise ValueError(f"Sobol's sequence has at most {LARGEST_SIZE} dimensions, got {size}")
    return Sobol(jnp.asarray(_direction_numbers(size)), jnp.zeros(size, jnp.uint32))


def scrambled(key: Key, sequence: Sobol) -> Sobol:
    """The same sequence under a random linear map of its bits and a random shift.

    Every point is uniform, and points lie as evenly as before (Matousek 1998, as in Owen 2003).

    Example:
        >>> import jax
        >>> sequence = scrambled(jax.random.key(0), directions(2))
        >>> sorted((4 * as_fractions(points(sequence, 0, 4))[:, 0]).astype(int).tolist())
        [0, 1, 2, 3]
    """
    matrix_key, shift_key = jax.random.split(key)
    size = len(sequence.shift)
    # Row i, for bit i from the top, mixes it with bits above: the diagonal is 1.
    place = jnp.arange(BITS)
    drawn = jax.random.bernoulli(matrix_key, 0.5, (size, BITS, BITS))
    lower = jnp.where(place[:, None] > place, drawn, place[:, None] == place)
    weight = jnp.uint32(1) << (BITS - 1 - place).astype(jnp.uint32)
    bits = (sequence.directions[:, :, None] & weight) > 0  # [D, direction, bit]
    mixed = jnp.einsum("dij,dkj->dki", lower.astype(jnp.int32), bits.astype(jnp.int32)) % 2
    shift = jax.random.bits(shift_key, (size,), jnp.uint32) >> (32 - BITS)
    return Sobol((mixed.astype(jnp.uint32) * weight).sum(-1, dtype=jnp.uint32), shift)


def points(sequence: Sobol, start: chex.Numeric, count: int) -> chex.Array:
    """Points ``start ... start + count - 1``, ``u32[count, D]``: multiples of ``2^-30``.

    Args:
        sequence: from ``directions`` or ``scrambled``.
        start: the first point's number, may be traced.
        count: how many.
    """
    number = jnp.asarray(start, jnp.uint32) + jnp.arange(count, dtype=jnp.uint32)
    gray = number ^ (number >> 1)
    chosen = (gray[:, None] >> jnp.arange(BITS, dtype=jnp.uint32)) & 1  # [count, 30]
    parts = chosen[:, None, :] * sequence.directions
    found = jax.lax.reduce(parts, jnp.uint32(0), jax.lax.bitwise_xor, (2,))
    return found ^ sequence.shift


def as_fractions(numbers: chex.Array) -> chex.Array:
    """``f[...]`` in [0, 1) of the default type, by the leading bits that it has room for."""
    dtype = jnp.result_type(float)
    room = min(BITS, jnp.finfo(dtype).nmant + 1)
    return (numbers >> (BITS - room)).astype(dtype) * 2.0**-room


@functools.cache
def _direction_numbers(size: int) -> np.ndarray:
    """``u32[size, 30]`` (Bratley & Fox 1988, with the numbers of Joe & Kuo 2008)."""
    with np.load(_FILE) as file:
        polynomials, first = (
            file["polynomials"][:size].astype(int),
            file["first"][:size].astype(int),
        )
    found = np.ones((size, BITS), np.int64)  # of the first dimension, all are 1
    for d in range(1, size):
        polynomial = int(polynomials[d])
        degree = polynomial.bit_length() - 1
        row = found[d]
        row[:degree] = first[d, :degree]
        for j in range(degree, BITS):
            row[j] = row[j - degree]
            for k in range(1, degree + 1):
                if polynomial >> (degree - k) & 1:
                    row[j] ^= row[j - k] << k
    return (found << np.arange(BITS - 1, -1, -1)).astype(np.uint32)
