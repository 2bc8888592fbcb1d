"""``import metahpo`` needs nothing but the core dependencies."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from metahpo._extras import require

pytestmark = pytest.mark.versions

ROOT = Path(__file__).parents[1]

# Imports every public module while each import of what the core does not bring is refused, and
# then asks for a module of every extra.
SCRIPT = """
import importlib, importlib.abc, json, pkgutil, sys

refused = set(json.loads(sys.argv[1]))


class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Refuse())

import metahpo
from metahpo._extras import require

private = {"__main__", "integrations"}
for module in pkgutil.iter_modules(metahpo.__path__):
    if module.name not in private:
        importlib.import_module(f"metahpo.{module.name}")

messages = {}
for name, extra in [("matplotlib", "plot"), ("sklearn.datasets", "data"), ("tyro", "cli")]:
    try:
        require(name, extra)
    except ImportError as error:
        messages[extra] = str(error)
print(json.dumps(messages))
"""


def core_distributions() -> set[str]:
    """The distributions that installing metahpo without extras brings, all the way down."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    todo = [(Requirement(line), "") for line in project["dependencies"]]
    found: set[tuple[str, str]] = set()
    while todo:
        requirement, parent_extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": parent_extra}):
            continue
        for extra in {"", *requirement.extras}:
            key = (canonical(requirement.name), extra)
            if key not in found:
                found.add(key)
                lines = importlib.metadata.requires(requirement.name) or []
                todo += [(Requirement(line), extra) for line in lines]
    return {name for name, _ in found}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_import_needs_the_core_dependencies_alone():
    core = core_distributions()
    refused = [
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if module.isidentifier() and not core & {canonical(owner) for owner in owners}
    ]
    assert {"matplotlib", "sklearn", "tyro", "pytest"} <= set(refused)

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(refused)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stderr
    messages = json.loads(done.stdout)
    for extra in ("plot", "data", "cli"):
        assert f"[{extra}]'" in messages[extra]


def test_require_gives_the_module_itself():
    assert require("importlib.metadata", "cli") is importlib.metadata


def test_require_names_the_extra():
    with pytest.raises(ImportError, match=r"\[data\]"):
        require("no_such_module_anywhere", "data")


def test_require_does_not_blame_the_extra_for_a_broken_module(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import no_such_module_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        require("broken_module", "data")
