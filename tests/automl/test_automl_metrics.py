"""Metrics are those of scikit-learn, weighted, also of padded rows and classes."""

import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.automl.metrics import METRICS, metric

N, PADDED = 60, 80


def padded(classes, seed=0):
    rng = np.random.default_rng(seed)
    width = classes if classes <= 2 else 4
    y = np.zeros(PADDED, int)
    y[:N] = rng.integers(classes, size=N)
    weight = np.zeros(PADDED)
    weight[:N] = rng.uniform(0.2, 2.0, N)
    p = rng.dirichlet(np.ones(classes), PADDED)
    p = np.round(p, 1) + 1e-3  # with ties
    p = np.concatenate([p, np.zeros((PADDED, width - classes))], axis=1)
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)  # so that ties are ties for all
    return p, y, weight, np.arange(width) < classes


@pytest.mark.parametrize("classes", [2, 3])
def test_metrics_of_a_classification(classes):
    from_sklearn = pytest.importorskip("sklearn.metrics")
    p, y, weight, there = padded(classes)
    seen, labels, w = p[:N, :classes], y[:N], weight[:N]
    hard = seen.argmax(1)
    average = {"average": "binary" if classes == 2 else "macro"}
    area = np.mean(
        [
            from_sklearn.roc_auc_score(labels == k, seen[:, k], sample_weight=w)
            for k in range(classes)
        ]
    )
    expected = {
        "log loss": from_sklearn.log_loss(labels, seen, sample_weight=w),
        "accuracy": from_sklearn.accuracy_score(labels, hard, sample_weight=w),
        "AUC": area,
        "balanced accuracy": from_sklearn.balanced_accuracy_score(labels, hard, sample_weight=w),
        "F1": from_sklearn.f1_score(labels, hard, sample_weight=w, **average),
    }
    arrays = (jnp.asarray(p, jnp.float32), y, jnp.asarray(weight, jnp.float32), there)
    for name, value in expected.items():
        found = METRICS[name]
        assert found.score(float(found.loss(*arrays))) == pytest.approx(value, abs=2e-6), name


def test_metrics_of_a_regression():
    from_sklearn = pytest.importorskip("sklearn.metrics")
    _, _, weight, _ = padded(2)
    y, out = np.random.default_rng(1).normal(size=(2, PADDED))
    seen = (y[:N], out[:N])
    expected = {
        "RMSE": from_sklearn.root_mean_squared_error(*seen, sample_weight=weight[:N]),
        "MAE": from_sklearn.mean_absolute_error(*seen, sample_weight=weight[:N]),
        "R2": from_sklearn.r2_score(*seen, sample_weight=weight[:N]),
    }
    for name, value in expected.items():
        found = METRICS[name]
        loss = found.loss(jnp.asarray(out)[:, None], jnp.asarray(y), weight, jnp.ones(1, bool))
        assert found.score(float(loss)) == pytest.approx(value, abs=1e-5), name


def test_a_metric_of_the_other_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="metric must be one of .*RMSE.*'AUC'"):
        metric("AUC", classes=False)
