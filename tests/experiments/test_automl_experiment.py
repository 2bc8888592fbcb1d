"""The sets of the AutoML experiment, how they are cut, and a run of one."""

import os
from pathlib import Path

import numpy as np
import pytest

from experiments import automl as experiment
from metahpo.study import Work


def test_no_set_was_chosen_by_and_reported_on():
    chosen, reported = (set(experiment.SETS[part]) for part in ("choose", "report"))
    assert not chosen & reported and len(reported) == len(experiment.SETS["report"]) == 18


def test_a_cut_has_three_to_four_tenths_of_every_class():
    y = np.repeat([0.0, 1.0, 2.0], (100, 50, 10))
    train, test = experiment.cut(y, True, seed=0)
    assert sorted([*train, *test]) == list(range(160))
    shares = np.bincount(y[test].astype(int)) / [100, 50, 10]
    assert (shares >= 0.3).all() and (shares <= 0.4).all()
    assert (test != experiment.cut(y, True, seed=1)[1]).any()


def test_a_table_is_measured_by_all_methods(monkeypatch):
    pytest.importorskip("sklearn")
    data = os.environ.get("METAHPO_DATA", "")
    if not (Path(data) / "pmlb").is_dir():
        pytest.skip("METAHPO_DATA names no folder with the data sets of PMLB (pmlb/)")
    monkeypatch.setattr(experiment, "MODELS", ("linear",))
    found = experiment.study(experiment.Size(sets=1, path=Path(data)), Work())
    assert [row["method"] for row in found.rows] == list(experiment.METHODS)
    assert all(np.isfinite(row["loss"].mean) for row in found.rows)


def test_the_folder_must_be_said(monkeypatch, tmp_path):
    monkeypatch.delenv("METAHPO_DATA", raising=False)
    with pytest.raises(ValueError, match="must be said by --path or METAHPO_DATA"):
        experiment.folder(experiment.QUICK)
    with pytest.raises(ValueError, match="folder with pmlb/"):
        experiment.folder(experiment.Size(path=tmp_path))
