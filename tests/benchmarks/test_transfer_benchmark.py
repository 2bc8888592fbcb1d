"""The benchmark of recommenders measures all of them, where the data are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from benchmarks import transfer
from metahpo.transfer.past import Past

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("METAHPO_DATA", Path(mh.__file__).parents[2] / "shared" / "data"))


def run(folder, *options):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.transfer", "--quick", *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "METAHPO_DATA": str(folder)},
    )


def test_every_recommender_is_measured(tmp_path):
    if not (DATA / "mapping").is_dir():
        pytest.skip(f"no mapping in {DATA}; METAHPO_DATA says where it is")
    done = run(DATA, "--json", str(tmp_path / "rows.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    names = {f"transfer/{name}" for name in transfer.RECOMMENDERS}
    metrics = {"compile_seconds", "leave_one_out_seconds", "suggestion_seconds"}
    assert {(row["name"], row["metric"]) for row in rows} == {
        (n, m) for n in names for m in metrics
    }
    assert all(row["value"] > 0 for row in rows)
    assert all(row["baseline"] > 0 for row in rows if row["metric"] == "leave_one_out_seconds")


def test_the_baseline_has_not_seen_the_task_that_it_suggests_for():
    ensemble = pytest.importorskip("sklearn.ensemble")
    size = jnp.arange(8.0)[:, None]
    # Task t is best at configuration t, which nobody else suggests: to see it is to choose it.
    regret = 1 - jnp.eye(8)
    past = Past(size, jnp.zeros((8, 1)), regret, jnp.arange(8), jnp.ones(8, bool))
    chosen = transfer.extra_trees(lambda: ensemble.ExtraTreesRegressor(8, random_state=0), past)
    assert (chosen != np.arange(8)).all()


def test_without_data_it_says_where_it_looked(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1 and "METAHPO_DATA says where mapping is" in done.stderr
