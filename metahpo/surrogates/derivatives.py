"""Derivatives as observations of a Gaussian process (Rasmussen & Williams 2006, section 9.4).

A derivative of a process is normal together with its values: the covariances are the derivatives of
the kernel.  So a derivative is one more row of the observations, and one more column, the last,
says what is observed in a row: the function, or its derivative by which column.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from metahpo.base import PyTree
from metahpo.space import Dimension, Float
from metahpo.surrogates import kernels, matern
from metahpo.surrogates import prior as priors
from metahpo.surrogates.gaussian_process import Numbers, Observations
from metahpo.surrogates.kernels import Kernel
from metahpo.surrogates.prior import Prior

VALUE = -1.0  # in the last column: the function itself
LEAST_ERROR = 1e-5
LOG_ERROR, ERROR_SCALE = -10.0, 3.0


class Pairs(NamedTuple):
    """What ``matern52`` knows of every pair of rows ``x`` and ``y``, whatever its numbers are.

    Attributes:
        squares: those of ``kernels.matern52``.
        of_x: ``f[N, C]``, 1 at the column by which a row is a derivative; 0 for a value.
        of_y: ``f[M, C]``, the same.
        along_x: ``f[N, M]``, ``x - y`` in the column by which ``x`` is a derivative.
        along_y: ``f[N, M]``, ``y - x`` in that of ``y``.
    """

    squares: PyTree
    of_x: chex.Array
    of_y: chex.Array
    along_x: chex.Array
    along_y: chex.Array


def matern52(columns: Sequence[int] | np.ndarray) -> Kernel:
    """``kernels.matern52`` for rows of values and of derivatives by these columns.

    Its numbers are the length scales, too.  By columns of other kernels, such as those of choices,
    nothing is differentiated, so that products with them are right.
    """
    chosen = np.asarray(columns, int)
    values = kernels.matern52(chosen)

    def derivative(x: chex.Array) -> chex.Array:
        return (x[:, -1:] == chosen).astype(x.dtype)

    def apart(x: chex.Array, y: chex.Array) -> Pairs:
        of_x, of_y = derivative(x), derivative(y)
        return Pairs(values.apart(x, y), of_x, of_y, along(of_x, x, y), along(of_y, y, x).T)

    def along(of_x: chex.Array, x: chex.Array, y: chex.Array) -> chex.Array:
        own = (of_x * x[:, chosen]).sum(1, keepdims=True)
        return own - jnp.matmul(of_x, y[:, chosen].T, precision=Precision.HIGHEST)

    def of(lengths: chex.Array, pairs: Pairs) -> chex.Array:
        weights = jnp.broadcast_to(5 / jnp.square(lengths), chosen.shape)
        square = jnp.tensordot(weights, pairs.squares, 1, precision=Precision.HIGHEST)
        # By the chain rule: the derivatives of the square by x, by y, and by both.
        by_x = 2 * (pairs.of_x * weights).sum(1)[:, None] * pairs.along_x
        by_y = 2 * (pairs.of_y * weights).sum(1) * pairs.along_y
        both = -2 * jnp.matmul(pairs.of_x * weights, pairs.of_y.T, precision=Precision.HIGHEST)
        x, y = 1 - pairs.of_x.sum(1)[:, None], 1 - pairs.of_y.sum(1)
        return (
            matern.value(square) * (x * y)
            + matern.slope(square) * (by_x * y + x * by_y + both)
            + matern.curvature(square) * (by_x * by_y)
        )

    def variance(lengths: chex.Array, x: chex.Array) -> chex.Array:
        of_x = derivative(x)
        weights = jnp.broadcast_to(5 / jnp.square(lengths), chosen.shape)
        return 1 - of_x.sum(1) + (of_x * weights).sum(1) / 3

    return Kernel(apart, of, variance)


def values(x: chex.Array) -> chex.Array:
    """``f[N, F + 1]``: the rows of points ``f[N, F]`` at which the function is observed."""
    return jnp.pad(x, ((0, 0), (0, 1)), constant_values=VALUE)


def observations(
    x: chex.Array, slopes: chex.Array, mask: chex.Array, columns: np.ndarray
) -> Observations:
    """``K C`` rows, the derivatives by ``C`` columns at one point after those at another.

    Args:
        x: ``f[K, F]``, points.
        slopes: ``f[K, C]``, what was observed there; anything where there is nothing.
        mask: ``bool[K, C]``, which of them there are.
        columns: ``i[C]``.
    """
    rows = jnp.repeat(x, len(columns), axis=0)
    by = jnp.tile(jnp.asarray(columns, x.dtype), len(x))
    return Observations(jnp.column_stack([rows, by]), slopes.reshape(-1), mask.reshape(-1))


def joined(slopes: Observations, data: Observations) -> Observations:
    """Derivatives, and behind them values, whose rows ``data`` has."""
    return Observations(*(jnp.concatenate(pair) for pair in zip(slopes, data, strict=True)))


def of_space(
    dims: Sequence[Dimension],
    points: int,
    length: chex.Numeric = 1.0,
    noise: chex.Numeric = 1.0,
    canonical: priors.Canonical = priors.unchanged,
) -> Prior:
    """``prior.of_space`` of a process that has rows of derivatives before those of values.

    The error of a derivative has a variance of its own, in units of the derivative's variance
    before anything was observed: log-normal, with the median ``exp(-10)``, and wide, as gradients
    may be exact, or those of a random training.

    Args:
        dims: of the ``d`` coordinates.
        points: whose derivatives by all floats come first, ``K``.
        length: as there.
        noise: as there, of values.
        canonical: as there.

    Returns:
        A Prior of one number more, ``f[d + 2]``, whose rows have one column more.
    """
    plain = priors.of_space(dims, length, noise, canonical, matern52)
    columns = floats(dims)
    probes = observations(jnp.zeros((1, len(dims))), columns[None], columns[None] >= 0, columns).x

    def numbers(free: chex.Array) -> Numbers:
        found = plain.numbers(free[:-1])
        error = jnp.exp(free[-1]) + LEAST_ERROR
        errors = error * plain.kernel.variance(found.kernel, probes.astype(free.dtype))
        noise = jnp.append(jnp.tile(errors, points), found.noise)
        return found._replace(noise=noise)

    def log_density(free: chex.Array) -> chex.Array:
        own = ((free[-1] - LOG_ERROR) / ERROR_SCALE) ** 2
        return plain.log_density(free[:-1]) - own / 2

    return Prior(
        plain.kernel,
        lambda x: values(plain.seen(x)),
        numbers,
        log_density,
        jnp.append(plain.mode, LOG_ERROR),
        lambda free: plain.lengths(free[:-1]),
    )


def floats(dims: Sequence[Dimension]) -> np.ndarray:
    """``i[C]``: the coordinates that have derivatives."""
    return np.flatnonzero([isinstance(dim, Float) for dim in dims])
