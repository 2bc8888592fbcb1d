"""At its corners regularised discriminant analysis is naive Bayes, LDA and QDA of scikit-learn."""

import jax
import numpy as np
import pytest
from fitted_families import data, fit_predict, task

from metahpo.automl.models import discriminant

CORNERS = {
    "pooled": np.array([0.0, 1.0, 0.0, 0.4]),
    "diagonal": np.array([1.0, 0.0, 0.0, 0.3]),
    "ridge": np.array([1e-9, 1e-9, 1e-9, 0.1]),
    "temperature": np.array([1.0, 1.0, 1.0, 2.0]),
}


def test_the_corners_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn")
    from sklearn import discriminant_analysis, naive_bayes

    del sklearn
    rng = np.random.default_rng(0)
    y = np.arange(150) % 3
    x = rng.normal(size=(150, 3)) * (1 + y[:, None]) + y[:, None] + rng.normal(size=(150, 1))
    with jax.enable_x64(True):
        _, out = fit_predict(
            discriminant, CORNERS, data(x, y, 2, classes=3), task("multiclass", 2, 3)
        )
    p = np.exp(out - out.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    own = np.arange(len(x)) % 2 != 0
    others = [
        naive_bayes.GaussianNB(var_smoothing=0.0),
        discriminant_analysis.LinearDiscriminantAnalysis(solver="lsqr"),
    ]
    for m, other in enumerate(others):
        expected = other.fit(x[own], y[own]).predict_proba(x)
        np.testing.assert_allclose(p[m, 0], expected, atol=1e-5)
    np.testing.assert_allclose(
        p[2:, 0], [_by_hand(x, y, own, 2), _by_hand(x, y, own, 3)], atol=1e-5
    )


def _by_hand(x, y, own, m):
    """Friedman's estimate by numpy: its QDA divides by n, that of scikit-learn by n - 1."""
    h = {name: values[m] for name, values in CORNERS.items()}
    covariances = [np.cov(x[own & (y == k)].T, bias=True) for k in range(3)]
    counts = [(own & (y == k)).sum() for k in range(3)]
    pooled = np.average(covariances, axis=0, weights=counts)
    logs = []
    for k in range(3):
        mixed = (1 - h["pooled"]) * covariances[k] + h["pooled"] * pooled
        mixed = (1 - h["diagonal"]) * mixed + h["diagonal"] * np.diag(np.diag(mixed))
        mixed = mixed + h["ridge"] * np.eye(3)
        apart = x - x[own & (y == k)].mean(0)
        square = (apart @ np.linalg.inv(mixed) * apart).sum(1)
        prior = np.log(counts[k] / sum(counts))
        logs.append((prior - np.linalg.slogdet(mixed)[1] / 2 - square / 2) / h["temperature"])
    p = np.exp(np.array(logs).T)
    return p / p.sum(1, keepdims=True)
