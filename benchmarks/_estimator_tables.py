"""Writes the tables of docs/which_estimator.md from the rows of ``benchmarks.estimators``.

    python -m benchmarks._estimator_tables [FILE]

FILE is ``benchmarks/results/cpu-2-cores.json`` by default; a test compares the page with it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks._estimator_problems import subjects
from benchmarks.estimators import FULL
from metahpo.report import table

PAGE = Path(__file__).parents[1] / "docs" / "which_estimator.md"
ROWS = Path(__file__).parent / "results" / "cpu-2-cores.json"
COLUMNS = ("estimator", "bias", "deviation", "cosine", "cost", "memory", "what `info` says")

Metrics = dict[str, dict[str, Any]]


def measured(path: Path = ROWS) -> dict[str, dict[str, Metrics]]:
    """The rows as ``{problem: {estimator: {metric: row}}}``, in their order."""
    found: dict[str, dict[str, Metrics]] = {}
    for row in json.loads(path.read_text()):
        topic, _, case = row["name"].partition("/")
        if topic == "estimators":
            problem, _, call = case.partition(", ")
            found.setdefault(problem, {}).setdefault(call, {})[row["metric"]] = row
    return found


def tables(path: Path = ROWS) -> dict[str, str]:
    """A Markdown table for every problem."""
    excluded = {subject.name: subject.excluded for subject in subjects(FULL)}
    made = {}
    for problem, estimators in measured(path).items():
        lines = [line(call, m) for call, m in estimators.items() if call != "training"]
        lines += [
            {"estimator": f"`{call}`", COLUMNS[-1]: f"does not apply: {reason}"}
            for call, reason in excluded[problem].items()
        ]
        made[problem] = table(lines, COLUMNS, style="markdown")
    return made


def line(call: str, metrics: Metrics) -> dict[str, str]:
    """One line of a table."""
    value = {name: row["value"] for name, row in metrics.items()}
    bias = number(value["bias"])
    if value["bias_error"] > 1e-3 * value["bias"]:
        bias += f" ± {number(value['bias_error'])}"
    return {
        "estimator": f"`{call}`",
        "bias": bias,
        "deviation": number(value["deviation"]),
        "cosine": f"{value['cosine']:.3f}",
        "cost": number(metrics["run_seconds"]["ratio"]),
        "memory": number(metrics["memory_bytes"]["ratio"]),
        "what `info` says": said(value),
    }


def said(value: dict[str, float]) -> str:
    """The warnings of an estimator, or that there was none."""
    parts = []
    if share := 1 - value.get("info.finite", 1):
        parts.append("**not finite**" + often(share))
    if share := value.get("info.exploding", 0):
        parts.append("**exploding**" + often(share))
    if "info.converged" in value:
        parts.append("converged" if value["info.converged"] == 1 else unconverged(value))
    sees = {name.removeprefix("info.sees."): v for name, v in value.items() if "info.sees." in name}
    # Before an implicit estimate has converged, its word on what it sees means nothing.
    blind = [name for name, v in sees.items() if v < 1 and value.get("info.converged", 1) == 1]
    if blind:
        parts.append("**does not see** " + ", ".join(f"`{name}`" for name in blind))
    if "info.standard_error" in value:
        parts.append(f"standard error {number(value['info.standard_error'])}")
    if "info.stationarity" in value and "info.converged" not in value:
        parts.append(f"residual {number(value['info.residual'])}")
    return "; ".join(parts) or "nothing"


def unconverged(value: dict[str, float]) -> str:
    """The stationarity is trustworthy only where the linear solve is."""
    parts = (f"{key} {number(value[f'info.{key}'])}" for key in ("stationarity", "residual"))
    return "**not converged**: " + ", ".join(parts)


def often(share: float) -> str:
    """How many of the estimates, if not all."""
    return "" if share == 1 else f" in {100 * share:.0f} %"


def number(value: float) -> str:
    """Two digits."""
    if value == 0 or 0.01 <= abs(value) < 99.5:
        return f"{float(f'{value:.2g}'):g}"
    if 99.5 <= abs(value) < 9999.5:
        return f"{float(f'{value:.2g}'):.0f}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def render(page: str, path: Path = ROWS) -> str:
    """The page with every table between its two marks replaced."""
    return common.filled(page, tables(path))


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    PAGE.write_text(render(PAGE.read_text(), source))
