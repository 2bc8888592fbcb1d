"""Writes the tables of docs/which_meta_learner.md from committed results.

    python -m benchmarks._few_shot_tables

They come from ``experiments/results`` (``sinusoid``, ``longer_adaptation``, ``omniglot``,
``digits_few_shot``, ``meta_hyperparameters``) and from the rows of ``benchmarks.few_shot``; a test
compares the page with them.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from metahpo.report import Interval, load_json, table

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "which_meta_learner.md"
RESULTS = ROOT / "experiments" / "results"
ROWS = ROOT / "benchmarks" / "results" / "cpu-2-cores.json"


def results(topic: str) -> dict[str, Any]:
    """What an experiment committed."""
    return load_json(RESULTS / topic / "results.json")


def sinusoid() -> str:
    """Errors of all learners with 5 and with 10 shots, and what their trainings took."""
    lines: dict[str, dict[str, Any]] = {}
    for row in results("sinusoid")["rows"]:
        line = lines.setdefault(row["learner"], {"learner": row["learner"], "steps": row["steps"]})
        line[f"error, {row['shots']} shots"] = row["error"]
        if row["shots"] == 5:
            line |= {name: row[name] for name in ("s a training", "working MB")}
    columns = ("learner", "steps", "error, 5 shots", "error, 10 shots")
    costs = {"s a training": ".0f", "working MB": ".2g"}
    return markdown(lines.values(), (*columns, *costs), costs)


def longer() -> str:
    """Errors after more steps than in training."""
    lines = [
        {name: value for name, value in row.items() if name != "as trained"}
        for row in results("longer_adaptation")["rows"]
    ]
    return markdown(lines, formats={name: ".3g" for name in lines[0] if name.startswith("after ")})


def omniglot() -> str:
    """Accuracies of every run."""
    modes = ("transductive", "inductive", "frozen")
    lines = []
    for run in results("omniglot")["runs"].values():
        row = run["row"]
        episodes = {"episodes": f"{row['ways']}-way {row['shots']}-shot"}
        lines.append(row | episodes | {"rounds": f"{row['rounds']:,}"})
    columns = ("learner", "episodes", "filters", "rounds", *modes, "published", "minutes")
    return markdown(lines, columns, {"minutes": ".0f"} | dict.fromkeys(modes, ".2f"))


def digits() -> str:
    """Accuracies on digits that training never saw."""
    lines = results("digits_few_shot")["rows"]
    return markdown(lines, formats={name: ".1f" for name in lines[-1] if "shot" in name})


def meta_hyperparameters() -> str:
    """What the strategies found for MAML."""
    formats = {"inner_rate": ".2g", "meta_rate": ".2g", "s a search": ".0f"}
    return markdown(results("meta_hyperparameters")["rows"], formats=formats)


def speed() -> str:
    """Seconds of metahpo and of its rivals."""
    lines = []
    for row in json.loads(ROWS.read_text()):
        case, _, who = row["name"].removeprefix("few_shot/").rpartition(", ")
        if row["name"].startswith("few_shot/") and row["metric"] == "seconds_by_ours":
            lines.append(
                {
                    "case": f"{case}, {who}",
                    "metahpo, s": f"{row['baseline']:.3g}",
                    "rival, s": f"{row['value']:.3g}",
                    "times faster": f"{row['ratio']:.3g}",
                }
            )
    return table(lines, tuple(lines[0]), style="markdown")


def markdown(
    rows: Iterable[dict[str, Any]],
    columns: Sequence[str] | None = None,
    formats: dict[str, str] | None = None,
) -> str:
    """A table in which mappings are intervals."""
    lines = [
        {
            name: Interval(**value) if isinstance(value, dict) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    return table(lines, columns, formats=formats, style="markdown")


def render(page: str) -> str:
    """The page with every table between its two marks replaced."""
    made = {
        "sinusoid": sinusoid(),
        "longer": longer(),
        "omniglot": omniglot(),
        "digits": digits(),
        "meta-hyperparameters": meta_hyperparameters(),
        "speed": speed(),
    }
    return common.filled(page, made)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
