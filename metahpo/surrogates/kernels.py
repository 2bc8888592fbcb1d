"""Covariance functions as values: what a Gaussian process supposes of its objective.

A point is a row of columns: coordinates of the unit cube, a time, a known context, whatever a
kernel reads.  What may be fitted (length scales and the like) comes apart from the kernel, as a
pytree of numbers, so that many sets of them can be compared in one program.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import chex
import jax
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


def matern52(columns: Sequence[int] | np.ndarray) -> Kernel:
    """Matern's kernel of order 5/2 with a length scale for every column, of variance 1.

    ``(1 + t + t^2 / 3) exp(-t)`` with ``t^2 = 5 sum_d (x_d - y_d)^2 / l_d^2`` (Rasmussen & Williams
    2006, equation 4.17).  Its numbers are the length scales, ``f[C]``.  It has two derivatives by
    ``x`` and by ``y`` everywhere, also where these are equal.
    """
    chosen = np.asarray(columns, int)

    def covariance(lengths: chex.Array, x: chex.Array, y: chex.Array) -> chex.Array:
        apart = (x[:, None, chosen] - y[None, :, chosen]) / lengths
        return _matern52(5 * jnp.sum(apart**2, axis=-1))

    return Kernel(covariance, lambda lengths, x: jnp.ones(len(x), x.dtype))


@jax.custom_jvp
def _matern52(square: chex.Array) -> chex.Array:
    t = jnp.sqrt(square)
    return (1 + t + square / 3) * jnp.exp(-t)


# By the square, whose root has no derivative at 0, where the kernel has one.
@_matern52.defjvp
def _matern52_jvp(primals: tuple, tangents: tuple) -> tuple[chex.Array, chex.Array]:
    return _matern52(*primals), _slope(*primals) * tangents[0]


@jax.custom_jvp
def _slope(square: chex.Array) -> chex.Array:
    t = jnp.sqrt(square)
    return -(1 + t) * jnp.exp(-t) / 6


@_slope.defjvp
def _slope_jvp(primals: tuple, tangents: tuple) -> tuple[chex.Array, chex.Array]:
    apart = primals[0] > 0
    t = jnp.where(apart, jnp.sqrt(jnp.where(apart, primals[0], 1.0)), 0.0)
    return _slope(*primals), jnp.exp(-t) / 12 * tangents[0]


def hamming(columns: Sequence[int] | np.ndarray) -> Exponent:
    """``-sum_d [x_d != y_d] / l_d`` over columns of choices; its numbers are ``l``, ``f[C]``."""
    chosen = np.asarray(columns, int)

    def exponent(lengths: chex.Numeric, x: chex.Array, y: chex.Array) -> chex.Array:
        differ = x[:, None, chosen] != y[None, :, chosen]
        return -jnp.sum(differ / jnp.asarray(lengths), axis=-1)

    return exponent


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


def product(*kernels: Kernel) -> Kernel:
    """The product of kernels over different columns; its numbers are a tuple of theirs."""

    def covariance(numbers: tuple, x: chex.Array, y: chex.Array) -> chex.Array:
        pairs = zip(kernels, numbers, strict=True)
        return math.prod((k.covariance(n, x, y) for k, n in pairs), start=jnp.ones((), x.dtype))

    def variance(numbers: tuple, x: chex.Array) -> chex.Array:
        pairs = zip(kernels, numbers, strict=True)
        return math.prod((k.variance(n, x) for k, n in pairs), start=jnp.ones((), x.dtype))

    return Kernel(covariance, variance)


def total(*kernels: Kernel) -> Kernel:
    """The sum of independent parts; its numbers are a tuple of theirs."""

    def covariance(numbers: tuple, x: chex.Array, y: chex.Array) -> chex.Array:
        pairs = zip(kernels, numbers, strict=True)
        return sum((k.covariance(n, x, y) for k, n in pairs), jnp.zeros((), x.dtype))

    def variance(numbers: tuple, x: chex.Array) -> chex.Array:
        pairs = zip(kernels, numbers, strict=True)
        return sum((k.variance(n, x) for k, n in pairs), jnp.zeros((), x.dtype))

    return Kernel(covariance, variance)
