"""Candidates of a run as rows and as a file."""

import csv

import jax
import numpy as np
import pytest

import metahpo as mh

SPACE = {
    "rate": mh.Float(1e-3, 1.0, log=True),
    "kind": mh.Choice(("a, b", "c")),
    "deep": {"er": mh.Int(1, 9), "x": mh.Float(0.0, 1.0, shape=(2,))},
}


@pytest.fixture(scope="module")
def result():
    strategy = mh.strategies.random(SPACE, population=5)
    problem = mh.problems.function(
        lambda h: h["rate"] + h["kind"] + h["deep"]["er"] + h["deep"]["x"].sum()
    )
    return jax.jit(lambda key: mh.search(key, problem, SPACE, strategy, rounds=3, steps=1))(
        jax.random.key(0)
    )


def test_there_is_a_row_for_every_candidate_in_its_own_units(result):
    rows = mh.report.candidates(SPACE, result)
    assert len(rows) == 15
    for row in rows:
        index = SPACE["kind"].values.index(row["kind"])
        loss = row["rate"] + index + row["deep.er"] + row["deep.x"].sum()
        assert row["loss"] == pytest.approx(loss, rel=1e-5)
        assert type(row["deep.er"]) is int
    assert [(row["round"], row["member"]) for row in rows] == [
        (t, m) for t in range(3) for m in range(5)
    ]


def test_idle_slots_are_no_candidates(result):
    budget = np.array(result.history.budget)
    budget[1:] = 0
    rows = mh.report.candidates(SPACE, result.history._replace(budget=budget))
    assert len(rows) == 5
    assert mh.report.candidates(SPACE, result.history._replace(budget=0 * budget)) == []


def test_a_file_of_them_is_read_by_every_reader(result, tmp_path):
    rows = mh.report.candidates(SPACE, result)
    path = tmp_path / "folder" / "rows.csv"
    mh.report.save_csv(path, rows)
    with path.open(newline="") as file:
        back = list(csv.DictReader(file))
    assert [row["kind"] for row in back] == [row["kind"] for row in rows]
    assert [float(row["loss"]) for row in back] == [row["loss"] for row in rows]


def test_a_hyperparameter_called_as_a_column_keeps_its_value():
    space = {"loss": mh.Float(0.0, 1.0)}
    strategy = mh.strategies.random(space, population=2)
    result = mh.minimize(lambda h: 2 * h["loss"], space, strategy, rounds=1, progress=False)
    row = mh.report.candidates(space, result)[0]
    assert row["loss"] == pytest.approx(2 * row["loss (hyperparameter)"])


def test_what_is_not_one_run_of_the_space_is_refused(result):
    with pytest.raises(ValueError, match="the run searched 5 coordinates, but the space has 1"):
        mh.report.candidates({"x": mh.Float(0.0, 1.0)}, result)
    many = jax.tree.map(lambda x: x[None], result.history)
    with pytest.raises(ValueError, match="index the results of several runs first"):
        mh.report.candidates(SPACE, many)
    with pytest.raises(ValueError, match="all rows must have the names"):
        mh.report.save_csv("rows.csv", [{"a": 1}, {"b": 1}])
