"""The benchmark of surrogates measures what it says, where the data are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import metahpo as mh
from benchmarks import surrogate

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("METAHPO_DATA", Path(mh.__file__).parents[2] / "shared" / "data"))


def run(folder, *options):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.surrogate", "--quick", *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "METAHPO_DATA": str(folder)},
    )


@pytest.fixture(scope="module")
def data():
    pytest.importorskip("onnx")
    if not (DATA / "yahpo").is_dir():
        pytest.skip(f"no yahpo in {DATA}; METAHPO_DATA says where it is")
    return DATA


def test_both_scenarios_are_measured(data, tmp_path):
    done = run(data, "--json", str(tmp_path / "rows.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["name"].split(",")[0] for row in rows} == {
        "surrogate/lcbench", "surrogate/rbv2_rpart"
    }  # fmt: skip
    assert all(row["metric"] == "evaluations_per_second" and row["value"] > 0 for row in rows)


@pytest.mark.parametrize(("name", "metric"), surrogate.METRICS.items())
def test_the_baseline_computes_what_ours_does(data, name, metric):
    runtime = pytest.importorskip("onnxruntime")
    found = mh.problems.read_surrogate(data / "yahpo" / name)
    problem = mh.problems.surrogate(found, metric)
    key = jax.random.key(0)
    h = mh.space.sample(key, found.space)
    loss = problem.loss(None, h, 3, surrogate.OVER)
    batch = {name: np.asarray(x)[None] for name, x in h.items()}
    inputs = surrogate._inputs(found, batch, np.array([3]))
    session = runtime.InferenceSession(str(data / "yahpo" / name / "model.onnx"))
    place = list(found.scenario.minimised).index(metric)
    assert float(loss) == pytest.approx(-session.run(None, inputs)[0][0, place], rel=1e-4)


def test_without_data_it_says_where_it_looked(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1 and f"no folder {tmp_path / 'yahpo'}" in done.stderr
