"""Covariance functions as values: what a Gaussian process supposes of its objective.

A point is a row of columns: coordinates of the unit cube, a time, a known context, whatever a
kernel reads.  What may be fitted (length scales and the like) comes apart from the kernel, as a
pytree of numbers, so that many sets of them can be compared in one program.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from metahpo.base import PyTree
from metahpo.surrogates import matern


class Kernel(NamedTuple):
    """A covariance function, in two parts: a fit needs the first, by far the larger, only once.

    Attributes:
        apart: ``(x f[N, F], y f[M, F]) -> pytree``, what it has to know of every pair, whatever
            its numbers are.
        of: ``(numbers, apart) -> f[N, M]``, the covariances, without noise.
        variance: ``(numbers, x f[N, F]) -> f[N]``, their diagonal for ``y = x``.
    """

    apart: Callable[[chex.Array, chex.Array], PyTree]
    of: Callable[[PyTree, PyTree], chex.Array]
    variance: Callable[[PyTree, chex.Array], chex.Array]

    def covariance(self, numbers: PyTree, x: chex.Array, y: chex.Array) -> chex.Array:
        """``f[N, M]``, without noise."""
        return self.of(numbers, self.apart(x, y))


class Exponent(NamedTuple):
    """What may stand in ``exponential``.

    Attributes:
        apart: as of a ``Kernel``.
        of: ``(number, apart) -> f[N, M]``, never positive, 0 for equal points.
    """

    apart: Callable[[chex.Array, chex.Array], PyTree]
    of: Callable[[chex.Numeric, PyTree], chex.Array]


def exponential(*exponents: Exponent) -> Kernel:
    """``exp`` of a sum of exponents, of variance 1: a product of kernels by one exponential.

    Its numbers are a tuple, one for each exponent.
    """

    def of(numbers: tuple, apart: list) -> chex.Array:
        # Of all that a process computes, exponentials take the time.
        triples = zip(exponents, numbers, apart, strict=True)
        return jnp.exp(sum(exponent.of(number, pairs) for exponent, number, pairs in triples))

    return Kernel(
        lambda x, y: [exponent.apart(x, y) for exponent in exponents],
        of,
        lambda numbers, x: jnp.ones(len(x), x.dtype),
    )


def matern52(columns: Sequence[int] | np.ndarray) -> Kernel:
    """Matern's kernel of order 5/2 with a length scale for every column, of variance 1.

    ``(1 + t + t^2 / 3) exp(-t)`` with ``t^2 = 5 sum_d (x_d - y_d)^2 / l_d^2`` (Rasmussen & Williams
    2006, equation 4.17).  Its numbers are the length scales, ``f[C]``.  It has two derivatives by
    ``x`` and by ``y`` everywhere, also where these are equal.
    """
    chosen = np.asarray(columns, int)

    def apart(x: chex.Array, y: chex.Array) -> chex.Array:
        x, y = x[:, chosen].T, y[:, chosen].T  # columns first: the last axes are long
        return (x[:, :, None] - y[:, None, :]) ** 2

    def of(lengths: chex.Array, squares: chex.Array) -> chex.Array:
        weights = jnp.broadcast_to(5 / jnp.square(lengths), chosen.shape)
        # Of the sum itself, not of differences of sums, so that nothing is lost.
        return matern.value(jnp.tensordot(weights, squares, 1, precision=Precision.HIGHEST))

    return Kernel(apart, of, lambda lengths, x: jnp.ones(len(x), x.dtype))


def hamming(columns: Sequence[int] | np.ndarray) -> Exponent:
    """``-sum_d [x_d != y_d] / l_d`` over columns of choices; its numbers are ``l``, ``f[C]``."""
    chosen = np.asarray(columns, int)

    def apart(x: chex.Array, y: chex.Array) -> chex.Array:
        differ = x[:, chosen].T[:, :, None] != y[:, chosen].T[:, None, :]
        return differ.astype(x.dtype)

    def of(lengths: chex.Numeric, differ: chex.Array) -> chex.Array:
        weights = jnp.broadcast_to(1 / jnp.asarray(lengths), chosen.shape)
        return -jnp.tensordot(weights, differ, 1, precision=Precision.HIGHEST)

    return Exponent(apart, of)


def squared(columns: Sequence[int] | np.ndarray) -> Exponent:
    """``-|x - y|^2 / (2 l^2)`` over some columns; its number is the length scale ``l``."""
    chosen = np.asarray(columns, int)

    def apart(x: chex.Array, y: chex.Array) -> chex.Array:
        return jnp.sum((x[:, None, chosen] - y[None, :, chosen]) ** 2, axis=-1)

    return Exponent(apart, lambda length, squares: -squares / (2 * jnp.square(length)))


def forgetting(column: int) -> Exponent:
    """``log(1 - w) |t - t'| / 2`` for a column of times (Bogunovic, Scarlett & Cevher 2016).

    Its number is ``w`` in [0, 1): what was learned some time ago counts less, unless ``w`` is 0.
    """

    def apart(x: chex.Array, y: chex.Array) -> chex.Array:
        return jnp.abs(x[:, None, column] - y[None, :, column])

    return Exponent(apart, lambda rate, times: times / 2 * jnp.log1p(-rate))


def linear(column: int, slope_variance: float) -> Kernel:
    """``v b b'``: a linear dependence on a column, whose slope has the prior variance ``v``.

    It has no numbers, that is, ``()``.
    """
    return Kernel(
        lambda x, y: x[:, column, None] * y[:, column],
        lambda numbers, products: slope_variance * products,
        lambda numbers, x: slope_variance * x[:, column] ** 2,
    )


def product(*kernels: Kernel) -> Kernel:
    """The product of kernels over different columns; its numbers are a tuple of theirs."""
    return _combined(kernels, math.prod)


def total(*kernels: Kernel) -> Kernel:
    """The sum of independent parts; its numbers are a tuple of theirs."""
    return _combined(kernels, sum)


def _combined(kernels: Sequence[Kernel], combine: Callable[[list], chex.Array]) -> Kernel:
    def of(numbers: tuple, apart: list) -> chex.Array:
        return combine([k.of(*rest) for k, *rest in zip(kernels, numbers, apart, strict=True)])

    def variance(numbers: tuple, x: chex.Array) -> chex.Array:
        return combine([k.variance(n, x) for k, n in zip(kernels, numbers, strict=True)])

    return Kernel(lambda x, y: [k.apart(x, y) for k in kernels], of, variance)
