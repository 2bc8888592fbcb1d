"""The sinusoid study: its curves of errors, and what it committed."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import metahpo as mh
from experiments import longer_adaptation
from experiments import sinusoid as study

RESULTS = Path(study.__file__).parent / "results" / "sinusoid" / "results.json"


@pytest.mark.parametrize("name", ["MAML", "ridge head"])
def test_the_curve_is_what_adapting_and_predicting_gives(name):
    method, key = study.METHODS[name], jax.random.key(0)
    problem = method.problem(mh.problems.sinusoid(5))
    hparams = jax.jit(problem.initial)(jax.random.key(1))
    curve = study.error_curve(key, method, 5, hparams, 2, episodes=3)
    steps = [0, 2] if method.adapts else [0]
    assert curve.shape == (3 if method.adapts else 1,)
    for count in steps:
        learner = mh.meta.learner(problem, count)
        scores = mh.meta.evaluate(
            key, learner, hparams, problem.sample, mh.problems.squared_error,
            episodes=3, modes=("transductive",),
        )["transductive"]  # fmt: skip
        np.testing.assert_allclose(curve[count], scores.mean, rtol=1e-5)


def test_a_training_is_cut_into_stages_without_a_trace():
    size = study.Size(rounds=4, stages=2, seeds=1, episodes=2)
    method = study.METHODS["MAML"]
    two, skipped = study.train(jax.random.key(0), method, 5, size)
    one, _ = study.train(jax.random.key(0), method, 5, size._replace(stages=1))
    jax.tree.map(np.testing.assert_array_equal, two, one)
    assert skipped == 0 and study.working_bytes(method, 5, size) > 0


def test_lasting_ends_where_the_error_first_leaves_a_tenth_above_the_best():
    assert longer_adaptation.lasting(np.array([4.0, 1.0, 1.05, 1.2, 1.0])) == 2
    assert longer_adaptation.lasting(np.array([4.0, 2.0, 1.0, 1.05])) == 3
    assert longer_adaptation.lasting(np.array([4.0, 1.0, np.nan])) == 1


# The targets are a straightforward program's 0.56, 0.388 and 0.036 and the published 0.19.
@pytest.mark.skipif(not RESULTS.exists(), reason="the study has not been run")
@pytest.mark.parametrize(
    ("learner", "shots", "most"),
    [
        ("MAML", 5, 0.55),
        ("Meta-SGD", 5, 0.37),
        ("MAML++, 5 steps", 5, 0.03),
        ("MAML++, 5 steps", 10, 0.015),
        ("CAVIA", 10, 0.19),
    ],
)
def test_the_committed_errors_are_below_their_targets(learner, shots, most):
    rows = json.loads(RESULTS.read_text())["rows"]
    row = next(row for row in rows if (row["learner"], row["shots"]) == (learner, shots))
    assert row["error"]["n"] == 3
    assert row["error"]["mean"] <= most
    assert row["skipped"] == 0
