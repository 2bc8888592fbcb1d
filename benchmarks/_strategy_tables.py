"""Writes the tables of docs/which_strategy.md from committed results.

    python -m benchmarks._strategy_tables

They come from ``experiments/results`` (``bbob``, ``schedule_evolution``, ``bayesian``) and from the
rows of ``benchmarks.evolution``; a test compares the page with them.
"""

import json
import math
from pathlib import Path
from typing import Any

from benchmarks import common
from metahpo.report import table

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "which_strategy.md"
RESULTS = ROOT / "experiments" / "results"
ROWS = ROOT / "benchmarks" / "results" / "cpu-2-cores.json"
# The functions of BBOB by what they ask for, as the suite groups them.
KINDS = {
    "separable": (1, 2, 3, 4, 5),
    "moderate": (6, 7, 8, 9),
    "ill-conditioned": (10, 11, 12, 13, 14),
    "multimodal": (15, 16, 17, 18, 19),
    "weak structure": (20, 21, 22, 23, 24),
}
BIPOP = "BIPOP-CMA-ES"


def bbob() -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of the study, one a function, and its strategies."""
    study = json.loads((RESULTS / "bbob" / "results.json").read_text())
    return study["rows"], study["settings"]["methods"]


def solved() -> str:
    """How many functions of each kind a strategy solved, in at least one of its runs."""
    rows, methods = bbob()
    lines = []
    for name in methods:
        line = {"strategy": name}
        for kind, numbers in KINDS.items():
            found = [row for row in rows if row["f"] in numbers and finite(row[name])]
            line[kind] = f"{len(found)} of {len(numbers)}"
        lines.append(line | {"all": sum(finite(row[name]) for row in rows)})
    return table(lines, tuple(lines[0]), style="markdown")


def running_times() -> str:
    """The expected running times on every function, and those published."""
    rows, methods = bbob()
    lines = [
        {"f": f"f{row['f']}"}
        | {name: number(row[name]) for name in methods}
        | {"published": number(row["published"]), "ratio": ratio(row["ratio"])}
        for row in rows
    ]
    return table(lines, tuple(lines[0]), style="markdown")


def schedules() -> str:
    """What a schedule of 20 rates came to, in multiples of the optimum."""
    rows = json.loads((RESULTS / "schedule_evolution" / "results.json").read_text())["rows"]
    lines = [
        {"strategy": row["strategy"]}
        | {name: within(row[name]) for name in rows[0] if name.startswith("ratio") and name in row}
        | {"times the optimum": within(row["times the optimum"])}
        for row in rows
    ]
    return table(lines, tuple(lines[0]), style="markdown")


def regrets() -> str:
    """Regrets of Bayesian optimisation: the families at all budgets, their tables at the last."""
    study = json.loads((RESULTS / "bayesian" / "results.json").read_text())
    budgets = study["settings"]["budgets"]
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    for row in study["rows"]:
        name, mean = row["table"], row["table"].endswith(", mean")
        for budget in budgets if mean else budgets[-1:]:
            line = lines.setdefault((name, budget), {"table": name, "trials": budget})
            line[row["method"]] = within(row[f"regret @{budget}"])
    found = sorted(lines.values(), key=lambda line: not line["table"].endswith(", mean"))
    return table(found, tuple(found[0]), style="markdown")


def speed() -> str:
    """Generations per second beside the peers."""
    lines: dict[str, dict[str, str]] = {}
    for row in json.loads(ROWS.read_text()):
        case, _, peer = row["name"].removeprefix("evolution/").partition(", beside ")
        if row["name"].startswith("evolution/") and peer:
            line = lines.setdefault(case, {"case": case, "metahpo": f"{row['value']:,.0f}"})
            line[peer] = f"{row['baseline']:,.0f} ({row['ratio']:.2g} x)"
    return table(
        list(lines.values()), ("case", "metahpo", "evosax", "pycma", "cmaes", "pymoo"),
        style="markdown",
    )  # fmt: skip


def finite(value: Any) -> bool:
    """Whether a running time is known; JSON has no infinity, so it may be a text."""
    return value is not None and math.isfinite(float(value))


def number(value: Any) -> str:
    """Three digits, or nothing."""
    return f"{float(f'{float(value):.3g}'):,.0f}" if finite(value) else ""


def ratio(value: Any) -> str:
    """Two decimals, or nothing."""
    return f"{float(value):.2f}" if finite(value) else ""


def within(interval: dict[str, float] | float | None) -> str:
    """A mean and its interval; a plain number for what is no mean."""
    if not isinstance(interval, dict):
        return "" if interval is None else f"{interval:.3g}"
    return f"{interval['mean']:.3g} ± {interval['half_width']:.1g}"


def render(page: str) -> str:
    """The page with every table between its two marks replaced."""
    made = {
        "solved": solved(),
        "running times": running_times(),
        "schedules": schedules(),
        "regrets": regrets(),
        "speed": speed(),
    }
    return common.filled(page, made)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
