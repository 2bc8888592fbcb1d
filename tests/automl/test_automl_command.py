"""``python -m metahpo automl``: from CSV files to a folder with a report."""

import csv
import sys

import numpy as np
import pytest

import metahpo as mh
from metahpo import report
from metahpo.__main__ import main

pytest.importorskip("tyro")


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["metahpo", "automl", *map(str, arguments)])
    main()


def write(path, n, seed, target=True):
    rng = np.random.default_rng(seed)
    size, town = rng.normal(size=n), rng.choice(["Rome", "Oslo"], n)
    y = np.where(size + (town == "Rome") > 0.5, "yes", "no")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "town", "day", *(["stays"] if target else [])])
        for i in range(n):
            cell = "" if i % 9 == 0 else f"{size[i]:.3f}"
            writer.writerow([cell, town[i], i // 5, *([y[i]] if target else [])])
    return y


@pytest.mark.slow
def test_a_file_becomes_a_report(monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    train, test, out = tmp_path / "train.csv", tmp_path / "test.csv", tmp_path / "out"
    write(train, 120, seed=0)
    truth = write(test, 60, seed=1, target=False)
    few = ("--models", "linear", "discriminant", "--budget", 12, "--folds", 3, "--groups", "day")
    call(monkeypatch, train, "--target", "stays", "--test", test, *few, "--out", out)
    shown = capsys.readouterr().out
    assert "ensemble, out-of-fold log loss" in shown and "linear" in shown
    found = report.load_json(out / "results.json")
    assert found["trainings"] == 12 and found["stopped by"] == "budget"
    assert len(found["rows"]) == 12 and {r["column"] for r in found["importances"]} == {
        "size",
        "town",
    }
    assert (out / "table.md").exists() and 5_000 < (out / "report.png").stat().st_size < 110_000
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert np.mean([row["stays"] for row in rows] == truth) > 0.8
    model = mh.automl.load(out / "model.npz")
    assert model.predict({"size": [2.0, -2.0], "town": ["Rome", "Rome"]}).tolist() == ["yes", "no"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "other"], "must have a line of names with 'other'"),
        (["--target", "stays", "--groups", "week"], "must have the column 'week'"),
        (["--target", "stays", "--metric", "RMSE"], "metric must be one of"),
        (["--target", "stays", "--budget", "0"], "budget must be a whole number"),
        (["--target", "town", "--kind", "regression"], "a Classifier predicts labels"),
    ],
)
def test_wrong_inputs_end_with_one_line_that_names_them(
    monkeypatch, tmp_path, capsys, arguments, message
):
    write(tmp_path / "train.csv", 30, seed=0)
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, tmp_path / "train.csv", *arguments, "--out", tmp_path / "out")
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
