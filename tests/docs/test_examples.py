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
    "own_estimator": {},
    "own_loop": {"rounds": 4},
    "own_strategy": {"rounds": 8, "seeds": 40},
    "sklearn_model": {"rounds": 1},
    "tuning_policy": {"rounds": 3, "steps": 2},
}
LONGEST = 60


def test_all_are_here():
    assert sorted(SMALL) == sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_methods_of_ones_own_find_the_minimum(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(name, **options):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main(**options)

    learned = run("own_estimator").hparams
    np.testing.assert_allclose([learned["x"], learned["y"]], [0.3, -0.2], atol=0.02)
    losses = {name: one.reached.loss[-1].mean() for name, one in run("own_strategy").items()}
    assert losses["mine"] < losses["random"]
