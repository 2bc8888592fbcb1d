"""Benchmarks import the core alone and write rows that others can read."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import common
from benchmarks.all import merge, topics

ROOT = Path(__file__).parents[2]
CORE = {"jax", "jaxlib", "optax", "flax", "chex", "numpy", "metahpo", "benchmarks"}
FIELDS = [
    "name",
    "metric",
    "value",
    "unit",
    "baseline",
    "ratio",
    "repeats",
    "device",
    "jax",
    "python",
]

# Runs a benchmark while the packages that only extras bring cannot be imported.
SCRIPT = """
import runpy, sys
for name in ("sklearn", "tyro", "matplotlib", "pytest"):
    sys.modules[name] = None
sys.argv = ["core", "--quick", "--json", sys.argv[1]]
runpy.run_module("benchmarks.core", run_name="__main__")
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmarks") / "rows.json"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(out)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_imports_only_the_core(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names <= CORE | set(sys.stdlib_module_names)


def test_rows_have_the_fields(rows):
    assert rows
    for row in rows:
        assert list(row) == FIELDS
        assert row["value"] > 0 and row["repeats"] >= 1
        assert (row["baseline"] is None) == (row["ratio"] is None)


def test_every_case_has_seconds_rates_and_memory(rows):
    metrics = {}
    for row in rows:
        metrics.setdefault(row["name"], set()).add(row["metric"])
    assert {"core/few-shot size, population=2", "core/few-shot size, tasks=2"} <= set(metrics)
    for name, found in metrics.items():
        if "/" in name:
            assert found == {
                "compile_seconds",
                "run_seconds",
                "inner_steps_per_second",
                "members_per_second",
                "temporary_bytes",
            }


def test_rates_are_the_trainings_over_the_seconds(rows):
    values = {(row["name"], row["metric"]): row for row in rows}
    seconds = values["core/few-shot size, population=2", "run_seconds"]
    steps = values["core/few-shot size, population=2", "inner_steps_per_second"]
    assert steps["value"] == pytest.approx(2 * 3 / seconds["value"])  # one repeat
    assert steps["ratio"] == pytest.approx(1 / seconds["ratio"])


def test_measurements_alternate_and_their_ratio_is_that_of_neighbours():
    order = []
    common.interleaved(2, lambda: order.append("a"), lambda: order.append("b"))
    assert "".join(order) == "ab" + "abab"  # one to warm up
    row = common.row("x/y", "run_seconds", "s", [1.0, 10.0, 3.0], [2.0, 20.0, 3.0])
    assert (row.value, row.baseline, row.ratio) == (3.0, 3.0, 0.5)
    assert common.row("x/y", "bytes", "B", [7.0]).ratio is None


def test_all_finds_the_benchmarks_and_replaces_the_rows_of_a_topic():
    assert "core" in topics() and not {"all", "common"} & set(topics())
    old = [{"name": "core/a", "value": 1}, {"name": "other/a", "value": 2}, {"name": "core"}]
    assert merge(old, [{"name": "core/b", "value": 3}], "core") == [
        {"name": "core/b", "value": 3},
        {"name": "other/a", "value": 2},
    ]


@pytest.mark.parametrize(
    ("device", "name"),
    [("cpu 2 cores", "cpu-2-cores.json"), ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3.json")],
)
def test_results_are_named_by_device(device, name):
    assert common.file_name(device) == name


def test_committed_results_are_rows():
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        committed = json.loads(path.read_text())
        assert all(list(row) == FIELDS for row in committed)
        assert {common.file_name(row["device"]) for row in committed} == {path.name}
