"""Writes the table of docs/reliability.md from the rows of ``benchmarks.faults``.

python -m benchmarks._fault_tables
"""

import json
from pathlib import Path

from benchmarks import common
from metahpo.report import table

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
ROWS = ROOT / "benchmarks" / "results" / "cpu-2-cores.json"


def faults() -> str:
    """Faults, runs that they came over, and runs that ended right."""
    lines: dict[str, dict[str, str]] = {}
    for row in json.loads(ROWS.read_text()):
        topic, _, name = row["name"].partition("/")
        if topic == "faults":
            line = lines.setdefault(name, {"fault": name})
            line[row["metric"]] = f"{row['value']:,.0f}"
    columns = ("fault", "faults", "runs", "right", "refused", "slowest_end_seconds")
    shown = {"refused": "of these refused", "slowest_end_seconds": "slowest end, s"}
    renamed = [{shown.get(k, k): line.get(k, "") for k in columns} for line in lines.values()]
    return table(renamed, tuple(shown.get(k, k) for k in columns), style="markdown")


def page() -> str:
    return common.filled(PAGE.read_text(), {"faults": faults()})


if __name__ == "__main__":
    PAGE.write_text(page())
