"""Greedy selection is what numpy selects, step by step."""

import numpy as np

from metahpo.automl import tables
from metahpo.automl.ensemble import STEPS, greedy
from metahpo.automl.metrics import METRICS


def test_the_ensemble_is_that_of_numpy():
    rng = np.random.default_rng(0)
    n, members = 50, 9
    y = rng.normal(size=n)
    out = y[None] + rng.normal(size=(members, n)) * rng.uniform(0.5, 2.0, (members, 1))
    out[4] = np.nan  # a member that failed is never taken
    weight = rng.uniform(0.5, 1.5, n)
    table = tables.pad(np.ones((n, 1)), np.zeros((n, 0)), y, weight, np.arange(n) % 2, 1)
    padded = np.zeros((members, 256, 1), np.float32)
    padded[:, :n, 0] = out
    shares, losses = greedy(padded, table, METRICS["RMSE"])

    taken, total, expected = [], np.zeros(n), []
    for step in range(STEPS):
        means = (total + np.nan_to_num(out)) / (step + 1)
        each = np.sqrt(np.average((means - y) ** 2, axis=1, weights=weight))
        each[4] = np.inf
        taken.append(int(each.argmin()))
        total += out[taken[-1]]
        expected.append(each.min())
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    count = int(np.argmin(losses)) + 1
    np.testing.assert_allclose(shares, np.bincount(taken[:count], minlength=members) / count)
    assert losses.min() < losses[0] and shares[4] == 0
