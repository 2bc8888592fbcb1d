"""Covariance functions as values: what a Gaussian process supposes of its objective.

A point is a row of columns: coordinates of the unit cube, a time, a known context, whatever a
kernel reads.  What may be fitted (length scales and the like) comes apart from the kernel, as a
pytree of numbers, so that many sets of them can be compared in one program.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import chex
import jax.numpy as jnp
import numpy as np

from metahpo.base import PyTree


class Kernel(NamedTuple):
    """A covariance function.

    Attributes:
        covariance: ``(numbers, x f[N, F], y f[M, F]) -> f[N, M]``, without noise.
        variance: ``(numbers, x f[N, F]) -> f[N]``, its diagonal for ``y = x``.
    """

    covariance: Callable[[PyTree, chex.Array, chex.Array], chex.Array]
    variance: Callable[[PyTree, chex.Array], chex.Array]


Exponent: TypeAlias = Callable[[chex.Numeric, chex.Array, chex.Array], chex.Array]
"""``(number, x f[N, F], y f[M, F]) -> f[N, M]``, never positive, 0 for equal points."""


def exponential(*exponents: Exponent) -> Kernel:
    """``exp`` of a sum of exponents, of variance 1: a product of kernels by one exponential.

    Its numbers are a tuple, one for each exponent.
    """

    def covariance(numbers: tuple, x: chex.Array, y: chex.Array) -> chex.Array:
        # Of all that a process computes, exponentials take the time.
        pairs = zip(exponents, numbers, strict=True)
        return jnp.exp(sum(exponent(number, x, y) for exponent, number in pairs))

    return Kernel(covariance, lambda numbers, x: jnp.ones(len(x), x.dtype))


def squared(columns: Sequence[int] | np.ndarray) -> Exponent:
    """``-|x - y|^2 / (2 l^2)`` over some columns; its number is the length scale ``l``."""
    chosen = np.asarray(columns, int)

    def exponent(length: chex.Numeric, x: chex.Array, y: chex.Array) -> chex.Array:
        squares = jnp.sum((x[:, None, chosen] - y[None, :, chosen]) ** 2, axis=-1)
        return -squares / (2 * jnp.square(length))

    return exponent


def forgetting(column: int) -> Exponent:
    """``log(1 - w) |t - t'| / 2`` for a column of times (Bogunovic, Scarlett & Cevher 2016).

    Its number is ``w`` in [0, 1): what was learned some time ago counts less, unless ``w`` is 0.
    """

    def exponent(rate: chex.Numeric, x: chex.Array, y: chex.Array) -> chex.Array:
        apart = jnp.abs(x[:, None, column] - y[None, :, column])
        return apart / 2 * jnp.log1p(-rate)

    return exponent


def linear(column: int, slope_variance: float) -> Kernel:
    """``v b b'``: a linear dependence on a column, whose slope has the prior variance ``v``.

    It has no numbers, that is, ``()``.
    """

    def covariance(numbers: tuple, x: chex.Array, y: chex.Array) -> chex.Array:
        del numbers
        return slope_variance * x[:, column, None] * y[:, column]

    return Kernel(covariance, lambda numbers, x: slope_variance * x[:, column] ** 2)


def total(*kernels: Kernel) -> Kernel:
    """The sum of independent parts; its numbers are a tuple of theirs."""

    def covariance(numbers: tuple, x: chex.Array, y: chex.Array) -> chex.Array:
        pairs = zip(kernels, numbers, strict=True)
        return sum((k.covariance(n, x, y) for k, n in pairs), jnp.zeros((), x.dtype))

    def variance(numbers: tuple, x: chex.Array) -> chex.Array:
        pairs = zip(kernels, numbers, strict=True)
        return sum((k.variance(n, x) for k, n in pairs), jnp.zeros((), x.dtype))

    return Kernel(covariance, variance)
