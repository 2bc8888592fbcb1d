"""The regulariser of a logistic regression: right and wrong hypergradients, and the truth."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import logistic_regression as study
from metahpo.study import Work

RESULTS = Path(study.__file__).parent / "results" / "logistic_regression" / "results.json"
KEY = jax.random.key(0)


def gradient(estimator, task, log10_l2):
    hparams = {"log10_l2": jax.numpy.asarray(log10_l2)}
    estimate, _ = jax.jit(estimator.estimate)(KEY, hparams, task, ())
    return float(estimate.grad["log10_l2"])


@pytest.mark.parametrize("method", study.RIGHT)
def test_the_right_hypergradients_are_the_closed_form(method):
    with jax.enable_x64(True):
        task = study.sample(jax.random.key(5))
        ours = gradient(study.estimators()[method], task, -2.0)
        np.testing.assert_allclose(ours, study.closed_form(task, -2.0), rtol=1e-9)


def test_the_closed_form_is_the_slope_of_the_validation_loss():
    with jax.enable_x64(True):
        task = study.sample(jax.random.key(6))
        loss = jax.jit(
            lambda l2: study.data_loss(
                study.mh.inner.unroll(study.regression_problem(), study.NEWTON_STEPS)(
                    KEY, {"log10_l2": l2}, task
                ),
                task.query,
            )
        )
        slope = (loss(-2.0 + 1e-4) - loss(-2.0 - 1e-4)) / 2e-4
        np.testing.assert_allclose(study.closed_form(task, -2.0), slope, rtol=1e-6)


def test_fixed_weights_give_zero_or_the_penalty_itself():
    with jax.enable_x64(True):
        task = study.sample(jax.random.key(7))
        plain, penalised = (study.estimators()[name] for name in study.WRONG)
        assert gradient(plain, task, -2.0) == 0
        hparams = {"log10_l2": -2.0}
        fit = study.mh.inner.unroll(study.regression_problem(), study.NEWTON_STEPS)
        value = study.penalty(hparams, fit(KEY, hparams, task))
        np.testing.assert_allclose(gradient(penalised, task, -2.0), np.log(10) * value)


def test_the_right_gradient_finds_the_valley_and_the_wrong_one_leaves_it():
    with jax.enable_x64(True):
        task = study.sample(jax.random.key(0))
        tasks = jax.tree.map(lambda a: a[None], task)
        size, methods = study.Size(rounds=100), study.estimators()
        right, wrong = (
            study.descend(methods[name], tasks, size, Work(), name)[0][:, 0]
            for name in (study.RIGHT[0], study.WRONG[1])
        )
        # At the end of either descent the slope has gone; above the valley it points down.
        for end in right[-1]:
            assert abs(study.closed_form(task, end)) < 0.02 * study.closed_form(task, 1.0)
        assert np.all(wrong[-1] < right[-1] - 1)
        assert np.all(wrong[-1] < np.array(study.STARTS) - 1)


def test_the_committed_results_say_the_same():
    rows = json.loads(RESULTS.read_text())["rows"]
    for row in rows[:-1]:
        above = row["above the grid's"]
        if row["gradient"] in study.RIGHT:
            assert row["error"] < 1e-9
            assert abs(above["mean"]) < 1e-4
        else:
            assert above["mean"] - above["half_width"] > 0.02
