"""The programs in docs/examples run, at a small size, and are short."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "examples"
SMALL = {
    "few_shot_data": {"rounds": 10, "tasks": 2},
    "learned_optimizer": {"rounds": 3, "steps": 5},
    "learned_schedule": {"rounds": 3},
    "nnx_network": {"rounds": 2, "steps": 20},
    "own_loop": {"rounds": 4},
    "own_method": {},
    "sklearn_model": {"rounds": 1},
    "tuning_policy": {"rounds": 3, "steps": 2},
}
LONGEST = 60


def test_all_are_here():
    assert sorted(SMALL) == sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", SMALL)
def test_an_example_runs_and_is_short(name, tmp_path, monkeypatch, capsys):
    if name in ("few_shot_data", "nnx_network", "sklearn_model"):
        pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    path = FOLDER / f"{name}.py"
    code = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(code) <= LONGEST
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(**SMALL[name]) is not None
    assert capsys.readouterr().out


def test_the_methods_of_ones_own_find_the_minimum():
    spec = importlib.util.spec_from_file_location("own_method", FOLDER / "own_method.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for hparams in module.main():
        np.testing.assert_allclose([hparams["x"], hparams["y"]], [0.3, -0.2], atol=0.02)
