"""Data hyper-cleaning: the draws, the hypergradient of the weights, and what it finds."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from experiments import hyper_cleaning as study
from metahpo.problems.digits import load_images
from metahpo.study import Work

RESULTS = Path(study.__file__).parent / "results" / "hyper_cleaning" / "results.json"


@pytest.fixture(scope="module")
def task():
    return jax.jit(study.sample)(jax.random.key(1))


def test_half_of_the_training_labels_are_wrong_and_no_image_is_in_two_parts(task):
    parts = [{x.tobytes() for x in np.asarray(part.x)} for part in task[:3]]
    assert [len(part.y) for part in task[:3]] == [449, 449, 899]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    truth = {x.tobytes(): y for x, y in zip(*load_images(), strict=True)}
    right = [truth[x.tobytes()] for x in np.asarray(task.support.x)]
    np.testing.assert_array_equal(np.asarray(task.support.y) != right, task.wrong)
    assert task.wrong.sum() == 449 // 2


def test_the_hypergradient_after_one_step_is_minus_the_gradients_inner_product(task):
    # params_1 = -rate/n sum_i w_i g_i, so d L_v / d w_i = -rate/n g_v(params_1) . g_i(0).
    estimator = mh.hypergrad.reverse(study.cleaning_problem(), steps=1)
    hparams = {"logit": jax.random.normal(jax.random.key(3), task.wrong.shape)}
    estimate, _ = jax.jit(estimator.estimate)(jax.random.key(0), hparams, task, ())
    params = estimate.info["state"].params

    def softmax(scores):
        return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

    x, y, weight = *map(np.asarray, task.support), np.asarray(jax.nn.sigmoid(hparams["logit"]))
    xv, yv = map(np.asarray, task.query)
    residual = softmax(np.zeros((len(y), 10))) - np.eye(10)[y]
    residual_v = softmax(xv @ np.asarray(params["w"]) + np.asarray(params["b"])) - np.eye(10)[yv]
    slope_w, slope_b = xv.T @ residual_v / len(yv), residual_v.mean(axis=0)
    inner = np.sum(residual * (x @ slope_w + slope_b), axis=1)
    expected = -study.RATE / len(y) * inner * weight * (1 - weight)
    np.testing.assert_allclose(estimate.grad["logit"], expected, rtol=2e-3, atol=1e-8)


def test_f1_counts_as_by_hand():
    found, wrong = jnp.array([1, 1, 1, 0, 0], bool), jnp.array([1, 1, 0, 1, 0], bool)
    np.testing.assert_allclose(study.agreement(found, wrong), [2 / 3, 2 / 3, 2 / 3], rtol=1e-6)


def test_a_few_steps_already_find_most_of_the_wrong_labels():
    found = study.study(study.Size(draws=2, steps=30, rounds=20), Work())
    by_method = {row["training data"]: row for row in found.rows}
    ours, everything = by_method["hypergradient"], by_method["everything"]
    assert ours["F1"].mean > 0.88
    assert ours["test accuracy %"].mean > 3 + everything["test accuracy %"].mean
    weight, wrong = found.arrays["weight"], found.arrays["wrong"]
    assert weight[wrong].mean() < weight[~wrong].mean()


@pytest.mark.parametrize("column, target", [("F1", 0.92), ("% of oracle", 99.0)])
def test_the_committed_means_reach_the_targets(column, target):
    rows = json.loads(RESULTS.read_text())["rows"]
    (ours,) = [row for row in rows if row["training data"] == "hypergradient"]
    assert ours[column]["mean"] >= target
    assert ours[column]["n"] == 20
