"""Random Fourier features are those of a Gaussian kernel, and what is fitted on them is linear."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitted_families import data, fit_predict, task

from metahpo.automl.models import kernel
from metahpo.automl.models.kernel import features

H = {"penalty": np.array([1e-2, 1e-3]), "length": np.array([1.0, 0.5])}


def test_products_of_the_features_are_about_the_kernel():
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (20, 3))
        frequencies = jax.random.normal(jax.random.key(1), (3, 20_000)) / 1.5
        z = np.asarray(features(x, frequencies))
    apart = ((np.asarray(x)[:, None] - np.asarray(x)) ** 2).sum(-1)
    # Of 20,000 cosines of variance at most 1, five standard errors.
    np.testing.assert_allclose(z @ z.T, np.exp(-apart / 2 / 1.5**2), atol=5 / np.sqrt(20_000))


def test_a_regression_is_the_ridge_of_its_features():
    sklearn = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 3))
    y = np.sin(2 * x[:, 0]) + x[:, 1] ** 2
    with jax.enable_x64(True):
        here = data(x, y, 2)
        here = here._replace(real=jnp.array([True, True, False]))  # the last column is padding
        fitted, out = fit_predict(kernel, H, here, task("regression", 2))
    assert (fitted["frequencies"][:, :, 2] == 0).all()
    one, half = fitted["frequencies"][:, 0, :2]
    np.testing.assert_allclose(one / half, 0.5)
    own = np.arange(128) % 2 != 0
    for m in range(2):
        angle = x @ fitted["frequencies"][m, 0]
        z = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) / np.sqrt(angle.shape[1])
        ridge = sklearn.Ridge(alpha=H["penalty"][m] * own.sum(), tol=1e-12).fit(z[own], y[own])
        np.testing.assert_allclose(out[m, 0, :, 0], ridge.predict(z), atol=1e-5)
