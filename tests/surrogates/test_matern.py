"""Matern's kernel, alone and beside choices: scikit-learn, and derivatives in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.surrogates import gaussian_process as gp
from metahpo.surrogates import kernels

LENGTHS = np.array([0.3, 0.7, 1.9])
MATERN = kernels.matern52(range(3))


def points(count, seed=0):
    return np.random.default_rng(seed).uniform(size=(count, 3))


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def oracle():
    process = pytest.importorskip("sklearn.gaussian_process")
    return process, process.kernels.Matern(LENGTHS, nu=2.5)


@pytest.mark.slow
def test_posterior_and_evidence_are_those_of_scikit_learn():
    process, kernel = oracle()
    x, new = points(25), points(9, 1)
    y = np.sin(5 * x[:, 0]) + x[:, 1]
    theirs = process.GaussianProcessRegressor(kernel, alpha=1e-3, optimizer=None).fit(x, y)
    data = gp.extended(jax.tree.map(jnp.asarray, gp.Observations(x, y, np.ones(25, bool))), 7)
    numbers = gp.Numbers(jnp.asarray(LENGTHS), 1e-3)
    mean, variance = gp.predict(MATERN, gp.posterior(MATERN, numbers, data), jnp.asarray(new))
    expected, std = theirs.predict(new, return_std=True)
    np.testing.assert_allclose(mean, expected, rtol=1e-8)
    np.testing.assert_allclose(variance, std**2, rtol=1e-8, atol=1e-12)
    evidence = gp.log_evidence(MATERN, numbers, data)
    np.testing.assert_allclose(evidence, theirs.log_marginal_likelihood_value_, rtol=1e-10)


def test_slopes_of_the_evidence_are_those_of_scikit_learn():
    process, kernel = oracle()
    x = points(20, 2)
    y = np.cos(4 * x[:, 0]) - x[:, 2]
    theirs = process.GaussianProcessRegressor(kernel, alpha=1e-2, optimizer=None).fit(x, y)
    _, slopes = theirs.log_marginal_likelihood(np.log(LENGTHS), eval_gradient=True)
    data = jax.tree.map(jnp.asarray, gp.Observations(x, y, np.ones(20, bool)))

    def evidence(logs):
        return gp.log_evidence(MATERN, gp.Numbers(jnp.exp(logs), 1e-2), data)

    found = jax.grad(evidence)(jnp.log(LENGTHS))
    np.testing.assert_allclose(found, slopes, rtol=1e-8)
    # And those of the noise, which scikit-learn does not fit here, are central differences.
    noise = jax.grad(lambda n: gp.log_evidence(MATERN, gp.Numbers(LENGTHS, n), data))(1e-2)
    step = 1e-6
    up, down = (gp.log_evidence(MATERN, gp.Numbers(LENGTHS, 1e-2 + s), data) for s in (step, -step))
    np.testing.assert_allclose(noise, (up - down) / (2 * step), rtol=1e-6)


def test_covariances_of_derivatives_are_those_of_the_differentiated_kernel():
    """Rasmussen & Williams 2006, equation 9.1, for Matern 5/2 by hand."""
    x, y = map(jnp.asarray, (points(1, 3)[0], points(1, 4)[0]))

    def k(a, b):
        return MATERN.covariance(jnp.asarray(LENGTHS), a[None], b[None])[0, 0]

    apart = (x - y) / LENGTHS
    t = np.sqrt(5) * np.linalg.norm(apart)
    by_x = -5 / 3 * (1 + t) * np.exp(-t) * apart / LENGTHS
    np.testing.assert_allclose(jax.grad(k)(x, y), by_x, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(k, 1)(x, y), -by_x, rtol=1e-12)
    scaled = apart / LENGTHS
    both = 5 / 3 * np.exp(-t) * ((1 + t) * np.diag(LENGTHS**-2) - 5 * np.outer(scaled, scaled))
    np.testing.assert_allclose(jax.jacfwd(jax.grad(k), 1)(x, y), both, rtol=1e-12)


def test_derivatives_at_one_point_are_finite_and_right():
    x = jnp.asarray(points(1, 5)[0])

    def k(a, b, lengths=LENGTHS):
        return MATERN.covariance(jnp.asarray(lengths), a[None], b[None])[0, 0]

    np.testing.assert_array_equal(jax.grad(k)(x, x), 0)
    np.testing.assert_allclose(jax.jacfwd(jax.grad(k), 1)(x, x), 5 / 3 * np.diag(LENGTHS**-2))
    slopes = jax.grad(lambda lengths: jax.jacfwd(jax.grad(k), 1)(x, x, lengths).sum())
    np.testing.assert_allclose(slopes(jnp.asarray(LENGTHS)), -10 / 3 * LENGTHS**-3)


def test_the_covariance_is_positive_definite_where_points_are_equal_or_far_apart():
    x = np.concatenate([points(20), points(20), 1e6 * points(5)])
    full = MATERN.covariance(jnp.asarray(LENGTHS), jnp.asarray(x), jnp.asarray(x))
    assert np.linalg.eigvalsh(full).min() > -1e-12


def test_choices_count_as_equal_or_different_whatever_their_numbers():
    kernel = kernels.product(kernels.matern52([0]), kernels.exponential(kernels.hamming([1, 2])))
    numbers = (jnp.array([0.5]), (jnp.array([2.0, 0.5]),))
    rows = jnp.array([[0.1, 0, 3], [0.1, 5, 3], [0.1, 1, 3], [0.1, 0, 1], [0.4, 2, 0]])
    found = kernel.covariance(numbers, rows[:1], rows)[0]
    t = np.sqrt(5) * 0.3 / 0.5
    near = (1 + t + t**2 / 3) * np.exp(-t)
    wanted = [1, np.exp(-0.5), np.exp(-0.5), np.exp(-2), near * np.exp(-2.5)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    np.testing.assert_allclose(kernel.variance(numbers, rows), 1)
    assert np.linalg.eigvalsh(kernel.covariance(numbers, rows, rows)).min() > 0
