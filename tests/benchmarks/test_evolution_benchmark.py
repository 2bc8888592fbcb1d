"""The benchmark of evolution runs every case, and measures what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xla

from benchmarks import _generations, _strategy_tables, _trainings
from benchmarks.evolution import FULL

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evolution")
    command = [sys.executable, "-m", "benchmarks.evolution", "--quick", "--json"]
    done = subprocess.run(
        [*command, str(folder / "rows.json")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "METAHPO_PEERS": str(folder / "none"), "XLA_FLAGS": xla.HASTE},
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "rows.json").read_text())
    return {(row["name"], row["metric"]): row for row in rows}, done


def test_without_peers_it_measures_ours_and_says_how_to_get_them(run):
    rows, done = run
    assert "python benchmarks/peers/install.py" in done.stderr.splitlines()[0]
    assert all("beside" not in name for name, _ in rows)
    for name in ("evolution/CMA-ES D=2 P=6", "evolution/CMA-ES D=2 P=6, search"):
        assert rows[name, "generations_per_second"]["value"] > 0
        assert rows[name, "first_seconds"]["value"] > 0


def test_populations_of_trainings_are_compared_with_the_ceilings(run):
    rows, _ = run
    peak = rows["evolution/digits, ceiling", "operations_per_second"]["value"]
    rates = {name: row["value"] for (name, m), row in rows.items() if m == "members_per_second"}
    assert len(rates) >= 2
    shares = [rows[name, "operations_share"]["value"] / rate for name, rate in rates.items()]
    np.testing.assert_allclose(shares, shares[0])  # one training's share of a second's operations
    # Three steps on 32 images of 64 pixels, 4 units, 10 classes: forward and backward products.
    products = 3 * (2 * 32 * 64 * 4 * 2 + 2 * 32 * 4 * 10 * 3)
    assert shares[0] * peak == pytest.approx(products)


@pytest.mark.parametrize("case", FULL.cases[::2], ids=lambda case: case.name)
def test_every_algorithm_of_the_benchmark_descends_on_the_sphere(case):
    space = _generations.box(4)
    strategy = case.algorithm.make(space, 12)
    best = [
        jax.jit(_generations.asked_and_told(strategy, space, count))(jax.random.key(0))
        for count in (1, 40)
    ]
    assert best[1] < 0.3 * best[0]


def test_the_sizes_that_are_promised_are_measured():
    names = [case.name for case in FULL.cases]
    for runs in ("", ", 64 runs"):
        for setting in ("CMA-ES D=10 P=10", "CMA-ES D=40 P=15", "DE D=30 P=100", "GA D=30 P=100"):
            assert f"evolution/{setting}{runs}" in names
    assert _trainings.FULL.populations == (4, 16, 64, 256, 1024)


def test_the_tables_of_the_guide_are_the_committed_results():
    page = _strategy_tables.PAGE.read_text()
    command = "python -m benchmarks._strategy_tables"
    assert page == _strategy_tables.render(page), f"run `{command}`"
