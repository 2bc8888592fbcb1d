"""Multi-fidelity search on learning curves: what is charged, incumbents, committed results."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from experiments import multi_fidelity as study
from metahpo.study import Work

RESULTS = Path(study.__file__).parent / "results" / "multi_fidelity" / "results.json"
SPACE = {"x": mh.Float(0.0, 1.0), "y": mh.Float(0.0, 1.0)}


def test_a_bracket_is_charged_what_its_rungs_grant():
    # 27 @2, 9 @6, 3 @18, 1 @54; 12 @6, 4 @18, 1 @54; 6 @18, 2 @54; 4 @54.
    assert study.epochs_of_a_band() == 162 + 156 + 180 + 216


def test_the_incumbent_has_the_lowest_loss_so_far_and_is_judged_after_a_whole_training():
    loss = np.array([5.0, 3.0, np.inf, 4.0, 2.0])
    whole = np.array([1.0, 7.0, 0.0, 2.0, 6.0])
    epochs = np.array([52, 26, 0, 26, 104])
    found = study.incumbents(loss, whole, epochs, 6)
    np.testing.assert_array_equal(found, [1, 7, 7, 6, np.nan, np.nan])


def test_trainings_are_counted_until_a_regret_is_reached_or_the_run_ends():
    regret = np.array([[0.5, 0.3, 0.2, np.nan], [0.5, 0.4, 0.4, np.nan]])
    np.testing.assert_array_equal(study.needed(regret, 0.3), [2, 3])


@pytest.fixture
def curves(monkeypatch):
    """Trainings whose loss falls with the epochs towards what the configuration is worth."""

    def loss(key, hparams, task, state):
        best = jnp.array([0.2, 0.8])[task]
        return (hparams["x"] - best) ** 2 + 0.1 * hparams["y"] + 1 / (1 + state)

    problem = mh.Problem(
        lambda key: jnp.zeros((), jnp.int32),
        lambda key, hparams, task: jnp.zeros((), jnp.int32),
        lambda key, hparams, task, state: state + 1,
        loss,
    )
    ranges = {study.METRIC: np.array([1 / 53] * 2)}, {study.METRIC: np.array([1.0] * 2)}
    made = SimpleNamespace(space=SPACE, instances=("a", "b"), best=ranges[0], worst=ranges[1])
    monkeypatch.setattr(study, "read", lambda size: made)
    monkeypatch.setattr(mh.problems, "surrogate", lambda read, metric: problem)
    return study.Size(trainings=28, budgets=(7, 14, 28), bands=1, process_bands=1, seeds=3, every=1)


def test_a_study_reports_what_is_known_at_equal_budgets(curves):
    size = curves._replace(methods=("random", "Hyperband", "ASHA"))
    found = study.study(size, Work())
    rows = {row["method"]: row for row in found.rows}
    assert list(rows) == list(size.methods)
    assert rows["random"]["regret @28"].mean <= rows["random"]["regret @7"].mean
    for method in ("Hyperband", "ASHA"):
        assert "regret @28" not in rows[method]  # 714 epochs are less than 14 trainings
        assert 0 <= rows[method]["regret @7"].mean < 1
        assert rows[method]["until random's 28"].mean <= 14
    assert found.notes["evaluations"]["Hyperband"] == 27 + 9 + 3 + 1 + 12 + 4 + 1 + 6 + 2 + 4
    assert found.notes["curves"]["Hyperband"]["trainings"][-1] == 14


def test_a_budget_beyond_the_trainings_is_refused():
    with pytest.raises(ValueError, match="budgets must lie within 1 to 100, got 200"):
        study.study(study.Size(budgets=(200,)), Work())


def test_data_that_nobody_has_named_are_asked_for(monkeypatch):
    monkeypatch.delenv("METAHPO_DATA", raising=False)
    with pytest.raises(ValueError, match="--path or METAHPO_DATA"):
        study.read(study.Size())


def test_committed_results_are_of_many_seeds_and_equal_budgets():
    results = json.loads(RESULTS.read_text())
    assert results["settings"]["seeds"] >= 20 and results["settings"]["trainings"] == 100
    rows = {row["method"]: row for row in results["rows"]}
    assert set(rows) == set(study.MODEL)
    for row in rows.values():
        assert row["regret @25"]["n"] == results["settings"]["seeds"]
        assert row["regret @25"]["mean"] <= row["regret @12"]["mean"]
    # A quarter of the epochs is enough for what 100 whole trainings of random search reach.
    whole = rows[study.RANDOM]["regret @100"]["mean"]
    assert rows[study.ASHA]["regret @25"]["mean"] < whole
    quarter = rows[study.GP_BAND]["regret @25"]
    assert quarter["mean"] + quarter["half_width"] < whole
