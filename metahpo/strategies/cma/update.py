"""One generation of CMA-ES: constants, ranks, and the update of the normal distribution.

Hansen, The CMA evolution strategy: a tutorial (arXiv 1604.00772v2), cited below as (T eq.); the
covariance update is the active one.  Populations may be traced: all functions take samples in
``S`` slots, of which the first ``population`` count.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo.lanes import when

# Fewer slots than this are ranked by comparing all pairs, which costs less than a sort.
MOST_COMPARED = 64


class Constants(NamedTuple):
    """Strategy parameters, ``f[]`` unless stated (T table 1).

    Attributes:
        weights: ``f[S]``, of the best, the second best, ...; the positive ones sum to 1.
        mu_eff: variance effective selection mass of the positive weights.
        c_sigma, d_sigma: learning rate and damping of the step size.
        c_c, c_1, c_mu: learning rates of the path, the rank-one and the rank-mu update.
    """

    weights: Any
    mu_eff: Any
    c_sigma: Any
    d_sigma: Any
    c_c: Any
    c_1: Any
    c_mu: Any


class Normal(NamedTuple):
    """The search distribution ``N(mean, sigma^2 C)`` and its two paths.

    Attributes:
        mean: ``f[D]``.
        sigma: ``f[]``, the step size.
        covariance: ``f[D, D]``, or its diagonal ``f[D]``.
        factor: like ``covariance``; ``factor @ factor.T`` is a recent covariance.
        path_sigma: ``f[D]``, the path of the standardised steps.
        path_c: ``f[D]``, the path of the steps.
        generation: ``i32[]``, how many generations it has seen.
    """

    mean: chex.Array
    sigma: chex.Array
    covariance: chex.Array
    factor: chex.Array
    path_sigma: chex.Array
    path_c: chex.Array
    generation: chex.Array


class Form(NamedTuple):
    """What is learned of the covariance, and how it is factored.

    Attributes:
        identity: ``(size, dtype) -> covariance``.
        stretch: ``(factor, z f[S, D]) -> f[S, D]``, samples of the covariance.
        scatter: ``(y f[S, D], weights f[S]) -> covariance``, the weighted sum of ``y y^T``.
        variances: ``(covariance) -> f[D]``.
        factorise: ``(covariance) -> factor``; not finite where that fails.
        condition: ``(covariance, factor) -> f[]``, the condition number of the covariance.  From
            a Cholesky factor it is a lower bound, at most some D times too low.
        axes: ``(factor) -> f[D, D]``, one step of one standard deviation a row.
        shrink: ``(factor, y f[S, D]) -> f[S, D]``, the inverse of ``stretch``.
    """

    identity: Callable[[int, Any], chex.Array]
    stretch: Callable[[chex.Array, chex.Array], chex.Array]
    scatter: Callable[[chex.Array, chex.Array], chex.Array]
    variances: Callable[[chex.Array], chex.Array]
    factorise: Callable[[chex.Array], chex.Array]
    condition: Callable[[chex.Array, chex.Array], chex.Array]
    axes: Callable[[chex.Array], chex.Array]
    shrink: Callable[[chex.Array, chex.Array], chex.Array]


def _cholesky(covariance: chex.Array) -> chex.Array:
    return jax.lax.linalg.cholesky(covariance, symmetrize_input=False)


def _square_root(covariance: chex.Array) -> chex.Array:
    vectors, values = jax.lax.linalg.eigh(covariance, symmetrize_input=False)
    return (vectors * jnp.sqrt(values)) @ vectors.T


def _ratio(values: chex.Array) -> chex.Array:
    return values.max() / values.min() if values.shape[0] else jnp.ones((), values.dtype)


_FULL = Form(
    identity=lambda size, dtype: jnp.eye(size, dtype=dtype),
    stretch=lambda factor, z: z @ factor.T,
    scatter=lambda y, weights: (weights[:, None] * y).T @ y,
    variances=jnp.diagonal,
    factorise=_cholesky,
    condition=lambda covariance, factor: _ratio(jnp.diagonal(factor)) ** 2,
    axes=jnp.transpose,
    shrink=lambda factor, y: jax.scipy.linalg.solve_triangular(factor, y.T, lower=True).T,
)
FORMS = {
    "cholesky": _FULL,
    "eigen": _FULL._replace(
        factorise=_square_root,
        condition=lambda covariance, factor: _ratio(jnp.linalg.eigvalsh(covariance)),
        shrink=lambda factor, y: jnp.linalg.solve(factor, y.T).T,
    ),
    "separable": Form(
        identity=jnp.ones,
        stretch=lambda factor, z: z * factor,
        scatter=lambda y, weights: (weights[:, None] * y**2).sum(0),
        variances=lambda covariance: covariance,
        factorise=jnp.sqrt,
        condition=lambda covariance, factor: _ratio(covariance),
        axes=jnp.diag,
        shrink=lambda factor, y: y / factor,
    ),
}


def constants(
    population: Any,
    size: int,
    *,
    slots: int | None = None,
    active: bool = True,
    separable: bool = False,
    xp: ModuleType = np,
) -> Constants:
    """The default strategy parameters for ``population`` samples in ``size`` dimensions.

    Args:
        population: samples of a generation, at least 2; traced only with ``xp=jnp``.
        size: ``D``.
        slots: length of the weights, by default ``population``; those beyond it are zero.
        active: whether the worse half gets negative weights.
        separable: for a diagonal covariance, which is learned (D + 2) / 3 times faster (Ros &
            Hansen, PPSN 2008).
        xp: ``numpy``, or ``jax.numpy`` for a traced population.
    """
    n = size or 1  # of no dimensions only the weights are of use
    rank = xp.arange(1, (slots or population) + 1)
    raw = xp.log((population + 1) / 2) - xp.log(rank)  # (T 49)
    good = xp.where(rank <= population // 2, raw, 0.0)
    bad = xp.where((rank > population // 2) & (rank <= population), xp.minimum(raw, 0.0), 0.0)
    mu_eff = good.sum() ** 2 / (good**2).sum()
    # The tutorial's (55) has n + mu_eff + 5; pycma's default of 3 is some 5 % faster.
    c_sigma = (mu_eff + 2) / (n + mu_eff + 3)
    d_sigma = 1 + 2 * xp.maximum(0.0, xp.sqrt((mu_eff - 1) / (n + 1)) - 1) + c_sigma
    # 0.7 and, two lines below, 1.3 are not the tutorial's.  Evaluations to 1e-8, medians of 20 to
    # 200 runs, come down by 2 to 8 % in 5, 10, 20 and 40 dimensions (ellipsoid, Rosenbrock, cigar,
    # tablet; only Rosenbrock in 40-D takes 2 % more), and as many runs succeed.
    c_c = 0.7 * (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)  # (T 56)
    faster = (n + 2) / 3 if separable else 1
    c_1 = 1.3 * faster * 2 / ((n + 1.3) ** 2 + mu_eff)  # (T 57)
    c_mu = faster * 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((n + 2) ** 2 + mu_eff)
    c_mu = xp.minimum(1 - c_1, c_mu)  # (T 58)
    weights = good / good.sum()
    if active:
        total = -bad.sum()
        bad_eff = total**2 / xp.maximum((bad**2).sum(), 1e-12)
        limit = xp.minimum(1 + c_1 / c_mu, 1 + 2 * bad_eff / (mu_eff + 2))  # (T 50, 51)
        limit = xp.minimum(limit, (1 - c_1 - c_mu) / (n * c_mu))  # (T 52)
        weights = weights + bad * limit / xp.maximum(total, 1e-12)  # (T 53)
    return Constants(weights, mu_eff, c_sigma, d_sigma, c_c, c_1, c_mu)


def lazy_gap(constants: Constants, size: int) -> int:
    """Generations from one factor to the next: half of the time in which the covariance changes."""
    return max(1, int(0.5 / ((constants.c_1 + constants.c_mu) * (size or 1))))


def start(form: Form, mean: chex.Array, sigma: chex.Numeric) -> Normal:
    """The first distribution, ``N(mean, sigma^2 I)``."""
    identity = form.identity(mean.shape[0], mean.dtype)
    zero = jnp.zeros_like(mean)
    sigma = jnp.asarray(sigma, mean.dtype)
    return Normal(mean, sigma, identity, identity, zero, zero, jnp.zeros((), jnp.int32))


def ranks(loss: chex.Array) -> chex.Array:
    """``i32[S]``: the place of each loss, 0 the best; ties in the order of the slots."""
    slots = loss.shape[0]
    index = jnp.arange(slots, dtype=jnp.int32)
    if slots > MOST_COMPARED:
        return jnp.zeros(slots, jnp.int32).at[jnp.argsort(loss, stable=True)].set(index)
    ahead = (loss < loss[:, None]) | ((loss == loss[:, None]) & (index < index[:, None]))
    return ahead.sum(1, dtype=jnp.int32)


def weighted(constants: Constants, places: chex.Array, foreign: chex.Array) -> chex.Array:
    """``f[S]``: the constants' weights in the order of the samples.

    Foreign points have no negative ones, as in pycma: they say where it is good, but a covariance
    that shrinks away from points that it did not draw grows in all other directions.

    Args:
        constants: the strategy parameters.
        places: ``i32[S]``, 0 the best.
        foreign: ``bool[S]``, points that the distribution did not draw.
    """
    weights = jnp.asarray(constants.weights)[places]
    return jnp.where(foreign, jnp.maximum(weights, 0.0), weights)


def updated(
    form: Form, constants: Constants, normal: Normal, z: chex.Array, weights: chex.Array
) -> Normal:
    """The distribution after one generation, all but its factor.

    Args:
        form: what is learned of the covariance.
        constants: the strategy parameters.
        normal: the distribution ``N(m, s^2 C)``, with the factor A that sampled.
        z: ``f[S, D]``, the samples were ``m + s A z``.
        weights: ``f[S]``, the constants' weights in the order of the samples.
    """
    c, n = constants, z.shape[1]
    if not n:
        return normal._replace(generation=normal.generation + 1)
    y = form.stretch(normal.factor, z)
    good = jnp.maximum(weights, 0.0)
    z_mean, y_mean = good @ z, good @ y
    mean = normal.mean + normal.sigma * y_mean  # (T 42), c_m = 1

    # Any factor A of C gives steps of the length that C^(-1/2) gives, |A^-1 y| = |z|, so no inverse
    # and no eigenvectors are needed (Krause, Arbones & Igel, NeurIPS 2016, for Cholesky factors).
    path_sigma = (1 - c.c_sigma) * normal.path_sigma
    path_sigma += jnp.sqrt(c.c_sigma * (2 - c.c_sigma) * c.mu_eff) * z_mean  # (T 43)
    expected = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
    length = jnp.sqrt((path_sigma**2).sum()) / expected
    growth = jnp.minimum(1.0, c.c_sigma / c.d_sigma * (length - 1))
    sigma = normal.sigma * jnp.exp(growth)  # (T 44)

    seen = 1 - (1 - c.c_sigma) ** (2 * (normal.generation.astype(z.dtype) + 1))
    short = length < (1.4 + 2 / (n + 1)) * jnp.sqrt(seen)  # h_sigma
    path_c = (1 - c.c_c) * normal.path_c
    path_c += jnp.where(short, jnp.sqrt(c.c_c * (2 - c.c_c) * c.mu_eff), 0.0) * y_mean  # (T 45)

    squared = jnp.maximum((z**2).sum(1), 1e-12)
    scaled = jnp.where(weights < 0, weights * n / squared, weights)  # (T 46)
    lost = jnp.where(short, 0.0, c.c_c * (2 - c.c_c))
    kept = 1 + c.c_1 * lost - c.c_1 - c.c_mu * weights.sum()
    covariance = kept * normal.covariance  # (T 47)
    covariance += c.c_1 * form.scatter(path_c[None], jnp.ones(1, z.dtype))
    covariance += c.c_mu * form.scatter(y, scaled)
    return normal._replace(
        mean=mean,
        sigma=sigma,
        covariance=covariance,
        path_sigma=path_sigma,
        path_c=path_c,
        generation=normal.generation + 1,
    )


def refactored(
    form: Form, factor: chex.Array, covariance: chex.Array
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """A factor of ``covariance``, that covariance, and ``bool[]``: whether it had none.

    A matrix that is not positive definite to the floats' precision has none; then factor and
    covariance are those of the old factor.
    """
    new = form.factorise(covariance)
    failed = ~jnp.isfinite(new).all()

    def restored(_: chex.Array, factor: chex.Array) -> chex.Array:
        return form.scatter(form.axes(factor), jnp.ones(factor.shape[0], factor.dtype))

    return jnp.where(failed, factor, new), when(failed, restored, covariance, factor), failed


def deviations(form: Form, normal: Normal) -> chex.Array:
    """``f[D]``, the standard deviations of the coordinates, positive whatever the rounding."""
    variances = jnp.maximum(form.variances(normal.covariance), jnp.finfo(normal.mean).tiny)
    return normal.sigma * jnp.sqrt(variances)
