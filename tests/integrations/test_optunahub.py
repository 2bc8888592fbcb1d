"""What goes into the registry of OptunaHub has its layout, and is the library's sampler."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna")

import metahpo as mh  # noqa: E402

ROOT = Path(__file__).parents[2] / "integrations" / "optunahub"
FOLDER = ROOT / "package" / "samplers" / "metahpo"


@pytest.fixture(scope="module")
def package():
    spec = importlib.util.spec_from_file_location("hub_metahpo", FOLDER / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["hub_metahpo"] = module
    spec.loader.exec_module(module)
    return module


def test_the_folder_has_what_the_registry_asks_for():
    found = {path.name for path in FOLDER.iterdir()} - {"__pycache__"}
    assert found == {
        "LICENSE",
        "README.md",
        "__init__.py",
        "example.py",
        "requirements.txt",
        "sampler.py",
    }
    head = (FOLDER / "README.md").read_text().split("---\n")[1]
    fields = dict(re.findall(r"^(\w+): (.+)$", head, re.MULTILINE))
    wanted = {"author", "title", "description", "tags", "optuna_versions", "license"}
    assert fields.keys() == wanted and fields["license"] == "MIT License"
    assert fields["tags"].startswith("[sampler,")
    assert "MIT License" in (FOLDER / "LICENSE").read_text()


def test_it_is_the_sampler_of_the_library(package):
    def objective(trial):
        return trial.suggest_float("x", -1, 1) ** 2 + trial.suggest_float("y", 0, 1)

    from metahpo.integrations.optuna import Sampler

    samplers = [
        package.MetahpoSampler("xnes", population=6, seed=2),
        Sampler(lambda space: mh.strategies.xnes(space, population=6), seed=2),
    ]
    studies = [optuna.create_study(sampler=sampler) for sampler in samplers]
    for study in studies:
        study.optimize(objective, n_trials=15)
    assert [t.params for t in studies[0].trials] == [t.params for t in studies[1].trials]


@pytest.mark.parametrize("name", ["no_such", "XNESState", "__all__"])
def test_a_strategy_that_is_not_there_is_refused_by_name(package, name):
    with pytest.raises(ValueError, match=f"strategy must be one of .*'cma_es'.* got '{name}'"):
        package.MetahpoSampler(name)


@pytest.mark.slow
def test_its_example_runs_from_the_registry():
    pytest.importorskip("optunahub")
    done = subprocess.run(
        [sys.executable, "package/samplers/metahpo/example.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) < 0.1
