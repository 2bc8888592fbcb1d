"""The benchmark of Bayesian optimisation measures suggestions of models that know n points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from benchmarks import _peers, bayesian


def test_what_is_suggested_takes_the_place_of_what_was_known():
    strategy = bayesian.STRATEGIES["TPE"](12)
    state = bayesian.known(strategy, 12)
    assert int(state.told.sum()) == 12 == int(state.asked)
    np.testing.assert_allclose(state.loss[:12], bayesian.sphere(np.asarray(state.unit[:12])))
    points = jax.jit(bayesian.suggesting(strategy, 12, 4))(jax.random.key(0), state)
    assert points.shape == (4, bayesian.SIZE) and len(jnp.unique(points, axis=0)) == 4


def test_programs_and_studies_give_rows_with_what_they_are_compared_to(monkeypatch):
    pytest.importorskip("optuna")
    tpe = bayesian.STRATEGIES["TPE"]
    # What is compiled fast, in place of a process.
    monkeypatch.setattr(bayesian, "STRATEGIES", {"GP": tpe})
    monkeypatch.setattr(bayesian, "process", lambda trials, space: mh.strategies.sobol(space, 1))
    monkeypatch.setattr(_peers, "hint", lambda: None)
    monkeypatch.setattr(bayesian, "peer_seconds", lambda n, sizes: [0.5] * sizes.last)
    rows = {(row.name, row.metric): row for row in bayesian.measure(quick=True)}
    many = rows["bayesian/GP, n=16, 2 seeds", "suggestion_seconds"]
    assert many.baseline == rows["bayesian/GP, n=16", "suggestion_seconds"].value
    beside = rows["bayesian/Optuna, n=12, beside Optuna's GP", "trial_seconds"]
    own = rows["bayesian/Optuna, n=12, beside Optuna's TPE", "trial_seconds"]
    assert beside.baseline == 0.5 and beside.value == own.value and own.baseline > 0
    assert {metric for _, metric in rows} == {
        "suggestion_seconds", "trial_seconds", "first_seconds", "compile_seconds"
    }  # fmt: skip
    assert all(row.value > 0 for row in rows.values())
