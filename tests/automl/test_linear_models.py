"""Ridge and logistic paths are those of scikit-learn."""

import jax
import numpy as np
import pytest
from fitted_families import data, fit_predict, task

from metahpo.automl.models import linear

PENALTIES = np.array([1e-3, 1e-1, 3.0])


def table(classes, seed=0, n=120, d=4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    scores = x @ rng.normal(size=(d, max(classes, 1))) + rng.normal(size=(n, max(classes, 1)))
    return x, scores.argmax(1) if classes > 1 else scores[:, 0]


def trained(x, fold, folds):
    return np.arange(len(x)) % folds != fold


def test_a_ridge_path_is_that_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.linear_model")
    x, y = table(1)
    weight = np.random.default_rng(1).uniform(0.5, 2.0, len(x))
    with jax.enable_x64(True):
        _, out = fit_predict(
            linear, {"penalty": PENALTIES}, data(x, y, 2, weight=weight), task("regression", 2)
        )
    for m, penalty in enumerate(PENALTIES):
        for fold in range(2):
            own = trained(x, fold, 2)
            ridge = sklearn.Ridge(alpha=penalty * weight[own].sum(), tol=1e-12)
            ridge.fit(x[own], y[own], weight[own])
            np.testing.assert_allclose(out[m, fold, :, 0], ridge.predict(x), atol=1e-5)


def test_a_logistic_path_is_that_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.linear_model")
    x, y = table(2)
    with jax.enable_x64(True):
        _, out = fit_predict(
            linear, {"penalty": PENALTIES}, data(x, y, 2, classes=2), task("binary", 2)
        )
    for m, penalty in enumerate(PENALTIES):
        for fold in range(2):
            own = trained(x, fold, 2)
            model = sklearn.LogisticRegression(C=1 / (penalty * own.sum()), tol=1e-10)
            model.fit(x[own], y[own])
            np.testing.assert_allclose(out[m, fold, :, 0], model.decision_function(x), atol=1e-5)


def test_a_multinomial_path_is_that_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.linear_model")
    x, y = table(3)
    with jax.enable_x64(True):
        here = data(x, y, 2, classes=4)
        here = here._replace(classes=np.array([True, True, True, False]))  # one class is padding
        _, out = fit_predict(linear, {"penalty": PENALTIES}, here, task("multiclass", 2, 4))
    assert (out[..., 3] < -1e8).all()
    p = np.exp(out[..., :3] - out[..., :3].max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    for m, penalty in enumerate(PENALTIES):
        for fold in range(2):
            own = trained(x, fold, 2)
            model = sklearn.LogisticRegression(C=1 / (penalty * own.sum()), tol=1e-10)
            model.fit(x[own], y[own])
            np.testing.assert_allclose(p[m, fold], model.predict_proba(x), atol=1e-5)


def test_separable_and_collinear_columns_give_finite_weights():
    x, _ = table(2)
    x = np.concatenate([x, x, np.zeros((len(x), 1))], axis=1).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    fitted, out = fit_predict(
        linear, {"penalty": np.array([1e-5, 10.0])}, data(x, y, 2, classes=2), task("binary", 2)
    )
    assert np.isfinite(fitted["weights"]).all()
    assert all(
        (out[0, f, own, 0] > 0).tolist() == (y[own] > 0).tolist()
        for f, own in enumerate(trained(x, fold, 2) for fold in range(2))
    )
