"""Gaussian processes in arrays of fixed capacity.

A slot that holds no observation is masked, which makes its row of the covariance that of the
identity: shapes never change, so nothing is compiled again as observations come in.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from metahpo import lanes
from metahpo.base import Key, PyTree
from metahpo.surrogates.kernels import Kernel


class Numbers(NamedTuple):
    """What may be fitted.

    Attributes:
        kernel: the kernel's numbers, a pytree.
        noise: ``f[]``, the variance of an observation's error, positive; or ``f[M]``, of those in
            the first ``M`` slots, the last of which is that of all behind.
    """

    kernel: PyTree
    noise: chex.Numeric


class Observations(NamedTuple):
    """``N`` slots, some of which hold an observation.

    Attributes:
        x: ``f[N, F]``, points; anything finite in an empty slot.
        y: ``f[N]``, what was observed there; anything in an empty slot.
        mask: ``bool[N]``, which slots are in use.
    """

    x: chex.Array
    y: chex.Array
    mask: chex.Array


class Posterior(NamedTuple):
    """A process that has seen its observations.

    Attributes:
        numbers: as given.
        data: as given, and whatever was ``imagined`` since.
        root: ``f[N, N]``, lower triangular, the inverse of the covariance's Cholesky factor.
        weights: ``f[N]``, the covariance's inverse times the observations.
    """

    numbers: Numbers
    data: Observations
    root: chex.Array
    weights: chex.Array


def empty(slots: int, size: int, dtype: chex.ArrayDType) -> Observations:
    """No observations, with room for ``slots`` points of ``size`` columns."""
    return Observations(
        jnp.zeros((slots, size), dtype), jnp.zeros(slots, dtype), jnp.zeros(slots, bool)
    )


def extended(data: Observations, slots: int) -> Observations:
    """The same observations, with empty slots behind them."""
    more = empty(slots, data.x.shape[1], data.x.dtype)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), data, more)


def covariance(
    kernel: Kernel, numbers: Numbers, data: Observations, apart: PyTree | None = None
) -> chex.Array:
    """``f[N, N]``, of the observations, noise included; ``apart`` is the kernel's, if known."""
    apart = kernel.apart(data.x, data.x) if apart is None else apart
    full = jnp.where(data.mask[:, None] & data.mask, kernel.of(numbers.kernel, apart), 0.0)
    noise = jnp.asarray(numbers.noise)
    if noise.ndim:
        noise = jnp.pad(noise, (0, len(data.mask) - len(noise)), mode="edge")
    return full + jnp.diag(jnp.where(data.mask, noise, 1.0))


def log_evidence(
    kernel: Kernel, numbers: Numbers, data: Observations, apart: PyTree | None = None
) -> chex.Array:
    """``f[]``, the log marginal likelihood (Rasmussen & Williams 2006, equation 2.30).

    Args:
        kernel: the covariance function.
        numbers: its numbers and the noise.
        data: what was observed.
        apart: ``kernel.apart(data.x, data.x)``, by who needs many evidences of the same data.
    """
    y = jnp.where(data.mask, data.y, 0.0)
    constant = data.mask.sum() * jnp.log(2 * jnp.pi) / 2
    return _log_density(covariance(kernel, numbers, data, apart), y) - constant


_cholesky = lanes.one_by_one(jnp.linalg.cholesky)
_solve = lanes.one_by_one(lambda lower, b: solve_triangular(lower, b, lower=True))


@jax.custom_jvp
def inverse_root(matrix: chex.Array) -> chex.Array:
    """``f[N, N]``, the inverse of the lower Cholesky factor."""
    lower = _cholesky(matrix)
    return _solve(lower, jnp.eye(len(lower), dtype=lower.dtype))


@inverse_root.defjvp
def _inverse_root_jvp(primals: tuple, tangents: tuple) -> tuple[chex.Array, chex.Array]:
    root = inverse_root(*primals)
    change = root @ tangents[0] @ root.T
    half = jnp.tril(change, -1) + jnp.diag(jnp.diagonal(change)) / 2
    return root, -half @ root


@jax.custom_jvp
def _log_density(covariance: chex.Array, y: chex.Array) -> chex.Array:
    lower = _cholesky(covariance)
    scaled = _solve(lower, y[:, None])[:, 0]
    return -jnp.sum(scaled**2) / 2 - jnp.log(jnp.diagonal(lower)).sum()


# Equation 5.9 there; to differentiate the factor would take twice as long.
@_log_density.defjvp
def _log_density_jvp(primals: tuple, tangents: tuple) -> tuple[chex.Array, chex.Array]:
    root = inverse_root(primals[0])
    scaled = root @ primals[1]
    weights = root.T @ scaled
    slope = (jnp.outer(weights, weights) - root.T @ root) / 2
    value = -jnp.sum(scaled**2) / 2 + jnp.log(jnp.diagonal(root)).sum()
    return value, jnp.vdot(slope, tangents[0]) - jnp.vdot(weights, tangents[1])


def best_numbers(
    kernel: Kernel, candidates: Numbers, data: Observations
) -> tuple[Numbers, chex.Array]:
    """Of ``S`` sets of numbers (leaves ``f[S]``) that of the highest evidence; and ``f[S]``."""
    apart = kernel.apart(data.x, data.x)
    evidence = jax.lax.map(lambda numbers: log_evidence(kernel, numbers, data, apart), candidates)
    evidence = jnp.where(jnp.isnan(evidence), -jnp.inf, evidence)
    best = jnp.argmax(evidence)
    return jax.tree.map(lambda leaf: leaf[best], candidates), evidence


def posterior(kernel: Kernel, numbers: Numbers, data: Observations) -> Posterior:
    """Conditions on the observations (Rasmussen & Williams 2006, algorithm 2.1)."""
    root = inverse_root(covariance(kernel, numbers, data))
    return Posterior(numbers, data, root, root.T @ (root @ jnp.where(data.mask, data.y, 0.0)))


def predict(kernel: Kernel, process: Posterior, x: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Means and variances ``f[M]`` at the points ``f[M, F]``, without noise."""
    cross = _cross(kernel, process, x)
    prior = kernel.variance(process.numbers.kernel, x)
    variance = prior - jnp.sum((process.root @ cross) ** 2, axis=0)
    return process.weights @ cross, jnp.maximum(variance, 0.0)


def sample(key: Key, kernel: Kernel, process: Posterior, x: chex.Array) -> chex.Array:
    """``f[M]``: one function of the process, without noise, at the points ``f[M, F]``."""
    numbers = process.numbers.kernel
    cross = process.root @ _cross(kernel, process, x)
    covariance = kernel.covariance(numbers, x, x) - cross.T @ cross
    # Points may be equal: what rounding takes away is given back.
    root = _cholesky(covariance + _last(process.numbers.noise) * jnp.eye(len(x)))
    drawn = jax.random.normal(key, (len(x),), x.dtype)
    return process.weights @ _cross(kernel, process, x) + root @ drawn


def imagined(kernel: Kernel, process: Posterior, slot: chex.Numeric, x: chex.Array) -> Posterior:
    """Pretends that ``x`` has been observed to be what is predicted (GP-BUCB).

    The means stay as they are, the variances near ``x`` fall (Desautels, Krause & Burdick 2014).

    Args:
        kernel: of the process.
        process: where nothing is in ``slot`` or behind it.
        slot: ``i32[]``, may be traced.
        x: ``f[F]``.
    """
    # One more row of the Cholesky factor, (row, edge), is one more row of its inverse.
    row = process.root @ _cross(kernel, process, x[None])[:, 0]
    prior = kernel.variance(process.numbers.kernel, x[None])[0]
    edge = jnp.sqrt(prior + _last(process.numbers.noise) - row @ row)
    root = process.root.at[slot].set((-row @ process.root / edge).at[slot].set(1 / edge))
    data = process.data._replace(
        x=process.data.x.at[slot].set(x), mask=process.data.mask.at[slot].set(True)
    )
    return process._replace(data=data, root=root)


def _last(noise: chex.Array) -> chex.Array:
    return jnp.ravel(noise)[-1]


def _cross(kernel: Kernel, process: Posterior, x: chex.Array) -> chex.Array:
    """``f[N, M]``: covariances with the observations, 0 for empty slots."""
    cross = kernel.covariance(process.numbers.kernel, process.data.x, x)
    return jnp.where(process.data.mask[:, None], cross, 0.0)
