"""Neighbours are those of scikit-learn."""

import jax
import numpy as np
import pytest
from fitted_families import data, fit_predict, task

from metahpo.automl.models import neighbours

HPARAMS = {
    "neighbours": np.array([1, 7, 40]),
    "power": np.array([0.0, 0.0, 1.0]),
    "prior": np.full(3, 1e-12),
}


@pytest.fixture(scope="module")
def sklearn():
    return pytest.importorskip("sklearn.neighbors")


def rows(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(128, 3)), rng.normal(size=(64, 3))


def test_means_are_those_of_scikit_learn(sklearn):
    x, new = rows()
    y = np.sin(x[:, 0]) + x[:, 1]
    with jax.enable_x64(True):
        _, out = fit_predict(neighbours, HPARAMS, data(x, y, 2), task("regression", 2), new)
    own = np.arange(len(x)) % 2 != 0
    for m in range(3):
        weights = "distance" if HPARAMS["power"][m] else "uniform"
        model = sklearn.KNeighborsRegressor(int(HPARAMS["neighbours"][m]), weights=weights)
        expected = model.fit(x[own], y[own]).predict(new)
        np.testing.assert_allclose(out[m, 0, :, 0], expected, atol=1e-5)


def test_chances_are_those_of_scikit_learn(sklearn):
    x, new = rows(1)
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    with jax.enable_x64(True):
        _, out = fit_predict(
            neighbours, HPARAMS, data(x, y, 2, classes=3), task("multiclass", 2, 3), new
        )
    own = np.arange(len(x)) % 2 != 0
    model = sklearn.KNeighborsClassifier(7).fit(x[own], y[own])
    # Chances of nothing are 1e-6, so that their logarithm is finite.
    np.testing.assert_allclose(np.exp(out[1, 0]), model.predict_proba(new), atol=1e-5)


def test_a_prior_counts_as_so_many_neighbours():
    x, new = rows(2)
    y = x[:, 0]
    h = {"neighbours": np.array([4]), "power": np.array([0.0]), "prior": np.array([4.0])}
    plain = h | {"prior": np.array([1e-12])}
    here = data(x.astype(np.float32), y.astype(np.float32), 2)
    _, drawn = fit_predict(neighbours, h, here, task("regression", 2), new.astype(np.float32))
    _, out = fit_predict(neighbours, plain, here, task("regression", 2), new.astype(np.float32))
    own = np.arange(len(x)) % 2 != 0
    np.testing.assert_allclose(drawn[0, 0], (out[0, 0] + y[own].mean()) / 2, atol=1e-5)
