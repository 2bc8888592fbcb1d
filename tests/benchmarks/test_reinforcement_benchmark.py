"""The benchmark of environments counts the steps that it plays."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from benchmarks import reinforcement

ROOT = Path(__file__).parents[2]


def test_a_quick_run_writes_its_rows(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reinforcement", "--quick", "--json", "rows.json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "METAHPO_PEERS": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["name"], row["metric"]) for row in rows] == [
        ("reinforcement/luby, 4 at once", "compile_seconds"),
        ("reinforcement/luby, 4 at once", "steps_per_second"),
    ]
    assert all(row["value"] > 0 and row["baseline"] is None for row in rows)


def test_every_case_makes_the_steps_that_it_counts():
    keys = jax.random.split(jax.random.key(0), 6)
    for case in reinforcement.CASES[:8]:
        state, played = jax.eval_shape(case.program(7), keys)
        assert played.reward.shape == played.terminated.shape == (6, 7)
        assert all(leaf.shape[0] == 6 for leaf in jax.tree.leaves(state))


@pytest.mark.slow
@pytest.mark.parametrize("agents", [reinforcement.ppo, reinforcement.dqn])
def test_agents_make_the_steps_that_are_counted(agents):
    keys = jax.random.split(jax.random.key(0), 2)
    assert jax.jit(agents(512))(keys)[0].tolist() == [512, 512]
