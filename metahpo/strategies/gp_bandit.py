"""A Gaussian process whose world changes: the time-varying bandit behind PB2.

The covariance of two rewards at points ``x, x'`` and times ``t, t'`` is
``exp(-|x - x'|^2 / (2 l^2)) (1 - w)^(|t - t'| / 2)`` (Bogunovic, Scarlett & Cevher 2016,
section 3): what was learned some rounds ago counts less by the last factor.  A reward may also
depend linearly on a known context ``b``, which adds ``CONTEXT b b'``; predictions are for
``b = 0``.

All arrays have static shapes: a slot that holds no observation is masked, which makes its row of
the covariance that of the identity.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

CONTEXT = 4.0  # prior variance of the context's slope, for standardised rewards and contexts


class Kernel(NamedTuple):
    """What the covariance depends on; rewards are standardised, so the variance is 1.

    Attributes:
        lengthscale: ``f[]``, ``l`` in the unit cube.
        forgetting: ``f[]``, ``w`` in [0, 1): 0 for a world that stays as it is.
        noise: ``f[]``, the variance of an observation's error, positive.
    """

    lengthscale: chex.Numeric
    forgetting: chex.Numeric
    noise: chex.Numeric


class Observations(NamedTuple):
    """``N`` slots, some of which hold an observation.

    Attributes:
        x: ``f[N, D]``, points.
        time: ``f[N]``, rounds.
        context: ``f[N]``.
        reward: ``f[N]``; anything in an empty slot.
        mask: ``bool[N]``, which slots are in use.
    """

    x: chex.Array
    time: chex.Array
    context: chex.Array
    reward: chex.Array
    mask: chex.Array


class Posterior(NamedTuple):
    """A process that has seen its observations.

    Attributes:
        kernel: as given.
        data: as given, and whatever was ``hallucinated`` since.
        root: ``f[N, N]``, lower triangular, the inverse of the covariance's Cholesky factor.
        weights: ``f[N]``, the covariance's inverse times the rewards.
    """

    kernel: Kernel
    data: Observations
    root: chex.Array
    weights: chex.Array


def covariance(
    kernel: Kernel, x: chex.Array, time: chex.Array, other: chex.Array, other_time: chex.Array
) -> chex.Array:
    """``f[N, M]``, without noise and context."""
    squares = jnp.sum((x[:, None] - other[None]) ** 2, axis=-1)
    apart = jnp.abs(time[:, None] - other_time[None])
    # One exponential: of all that is computed here, these take the time.
    return jnp.exp(
        -squares / (2 * jnp.square(kernel.lengthscale)) + apart / 2 * jnp.log1p(-kernel.forgetting)
    )


def factor(kernel: Kernel, data: Observations) -> chex.Array:
    """``f[N, N]``, the lower Cholesky factor of the observations' covariance."""
    full = covariance(kernel, data.x, data.time, data.x, data.time)
    full = full + CONTEXT * data.context[:, None] * data.context
    full = jnp.where(data.mask[:, None] & data.mask, full, 0.0)
    return jnp.linalg.cholesky(full + jnp.diag(jnp.where(data.mask, kernel.noise, 1.0)))


def log_evidence(kernel: Kernel, data: Observations) -> chex.Array:
    """``f[]``, the log marginal likelihood (Rasmussen & Williams 2006, equation 2.30)."""
    root = factor(kernel, data)
    reward = jnp.where(data.mask, data.reward, 0.0)
    scaled = solve_triangular(root, reward, lower=True)
    count = data.mask.sum()
    log_determinant = jnp.log(jnp.diagonal(root)).sum()
    return -jnp.sum(scaled**2) / 2 - log_determinant - count * jnp.log(2 * jnp.pi) / 2


def posterior(kernel: Kernel, data: Observations) -> Posterior:
    """Conditions on the observations (Rasmussen & Williams 2006, algorithm 2.1)."""
    lower = factor(kernel, data)
    root = solve_triangular(lower, jnp.eye(len(lower), dtype=lower.dtype), lower=True)
    reward = jnp.where(data.mask, data.reward, 0.0)
    return Posterior(kernel, data, root, root.T @ (root @ reward))


def predict(process: Posterior, x: chex.Array, time: chex.Numeric) -> tuple[chex.Array, chex.Array]:
    """Means and variances ``f[M]`` at the points ``f[M, D]``, without noise, at one time."""
    cross = _cross(process, x, time)
    variance = 1 - jnp.sum((process.root @ cross) ** 2, axis=0)
    return process.weights @ cross, jnp.maximum(variance, 0.0)


def hallucinate(
    process: Posterior, slot: chex.Numeric, x: chex.Array, time: chex.Numeric
) -> Posterior:
    """Pretends that ``x`` has been observed to be what is predicted (GP-BUCB).

    The means stay as they are, the variances near ``x`` fall (Desautels, Krause & Burdick 2014).

    Args:
        process: where nothing is in ``slot`` or behind it.
        slot: ``i32[]``, may be traced.
        x: ``f[D]``.
        time: ``f[]``.
    """
    # One more row of the Cholesky factor, (row, edge), is one more row of its inverse.
    row = process.root @ _cross(process, x[None], time)[:, 0]
    edge = jnp.sqrt(1 + process.kernel.noise - row @ row)
    root = process.root.at[slot].set((-row @ process.root / edge).at[slot].set(1 / edge))
    data = process.data._replace(
        x=process.data.x.at[slot].set(x),
        time=process.data.time.at[slot].set(time),
        context=process.data.context.at[slot].set(0.0),
        mask=process.data.mask.at[slot].set(True),
    )
    return process._replace(data=data, root=root)


def _cross(process: Posterior, x: chex.Array, time: chex.Numeric) -> chex.Array:
    """``f[N, M]``: covariances with the observations, 0 for empty slots."""
    data = process.data
    times = jnp.full(len(x), time, x.dtype)
    cross = covariance(process.kernel, data.x, data.time, x, times)
    return jnp.where(data.mask[:, None], cross, 0.0)


def best_kernel(kernels: Kernel, data: Observations) -> tuple[Kernel, chex.Array]:
    """The one of ``S`` kernels (leaves ``f[S]``) with the highest evidence, and all of these."""
    evidence = jax.lax.map(lambda kernel: log_evidence(kernel, data), kernels)
    evidence = jnp.where(jnp.isnan(evidence), -jnp.inf, evidence)
    best = jnp.argmax(evidence)
    return jax.tree.map(lambda leaf: leaf[best], kernels), evidence
