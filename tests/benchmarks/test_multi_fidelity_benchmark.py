"""The benchmark of brackets measures each round that a bracket has, and no other."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import multi_fidelity

ROOT = Path(__file__).parents[2]


def test_a_bracket_is_compared_with_its_own_rounds():
    halving, everybody, band = multi_fidelity.cases(multi_fidelity.QUICK)
    assert halving.rounds == everybody.rounds == [(9, 1, None), (3, 2, None), (1, 6, None)]
    assert [size.members for size in band.rounds] == [9, 3, 1, 5, 1, 3]
    assert halving.strategy.needs.sizes and not everybody.strategy.needs.sizes


def test_it_writes_rows_with_baselines(tmp_path):
    out = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks.multi_fidelity", "--quick", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())
    assert {row["metric"] for row in rows} == {"compile_seconds", "run_seconds"}
    assert len(rows) == 6 and all(row["baseline"] > 0 for row in rows)
