"""Runs a comparison: methods one after another, saved as they finish, then a table and plots."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metahpo import report
from metahpo._extras import require
from metahpo._files import writable_folder
from metahpo.compare.trials import Reached, Trials, reached

SETTINGS_FILE = "settings.json"


class Comparison(NamedTuple):
    """What is compared, and how it is reported.

    Attributes:
        name: of the comparison.
        methods: ``(setting) -> Trials`` by name, in the order of the table.
        setting: what every method is given.
        settings: the numbers that decide the results, as JSON; a resumed run must have the same.
        budgets: the budgets to report, in complete trainings, ascending.
        loss_label: what the validation loss is.
        score_label: what the score is.
        reference: the method that the others' last losses are compared with, pair by pair.
        score_percent: whether the score is a share to be shown in percent.
        loss_log: whether to draw the loss on a logarithmic axis.
    """

    name: str
    methods: Mapping[str, Callable[[Any], Trials]]
    setting: Any
    settings: Mapping[str, Any]
    budgets: Sequence[int]
    loss_label: str
    score_label: str
    reference: str
    score_percent: bool = False
    loss_log: bool = False


class Outcome(NamedTuple):
    """One method's trials, and what they had reached at each budget."""

    trials: Trials
    reached: Reached


def run(
    comparison: Comparison, names: Sequence[str], out: Path, resume: bool
) -> dict[str, Outcome]:
    """Runs the named methods and writes everything into ``out``.

    Args:
        comparison: what to compare.
        names: methods of it.
        out: the results folder; new or empty unless ``resume``.
        resume: take methods that ``out`` already holds from there.

    Returns:
        The outcomes by method.

    Raises:
        ValueError: for an unknown method, a folder that is not empty (without ``resume``), that
            holds another run, or that cannot be written, or a damaged file in it.
    """
    unknown = [name for name in names if name not in comparison.methods]
    if unknown or not names:
        raise ValueError(
            f"unknown strategies {unknown}; {comparison.name} has {', '.join(comparison.methods)}"
        )
    prepare(out, comparison, resume)
    outcomes = {}
    progress = require("rich.progress", "cli")
    console = require("rich.console", "cli").Console(stderr=True)
    with progress.Progress(*progress.Progress.get_default_columns(), console=console) as bar:
        bar_task = bar.add_task(comparison.name, total=len(names))
        for name in names:
            bar.update(bar_task, description=name)
            trials, how = _trials(comparison, name, out / "trials" / f"{name}.npz", resume)
            outcomes[name] = Outcome(trials, reached(trials, comparison.budgets))
            bar.advance(bar_task)
            console.print(f"{len(outcomes)}/{len(names)} {name}: {how}", highlight=False)
    write(comparison, outcomes, out)
    return outcomes


def _trials(comparison: Comparison, name: str, path: Path, resume: bool) -> tuple[Trials, str]:
    """Runs a method and saves its trials, or loads them; and how they came about."""
    if resume and path.exists():
        return load_trials(path), "taken from the results folder"
    trials = comparison.methods[name](comparison.setting)
    report.save_npz(path, trials._asdict())
    seconds = trials.compile_seconds + trials.run_seconds + trials.learning_seconds
    return trials, f"{seconds:.1f} s"


def prepare(out: Path, comparison: Comparison, resume: bool) -> None:
    """Makes the results folder, or checks that it is this comparison's."""
    writable_folder(out)
    path = out / SETTINGS_FILE
    wanted = {"comparison": comparison.name, **comparison.settings}
    if resume and path.exists():
        found = report.load_json(path)
        if found != wanted:
            differ = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
            raise ValueError(
                f"{out} holds another run, so it cannot be resumed: "
                + ", ".join(f"{k} is {found.get(k)} there, {wanted.get(k)} here" for k in differ)
            )
        return
    if any(out.iterdir()):
        rule = f"has no {SETTINGS_FILE} to resume from" if resume else "is not empty (see --resume)"
        raise ValueError(f"the output folder {out} {rule}")
    report.save_json(path, wanted)


def load_trials(path: Path) -> Trials:
    """Reads a method's trials; a damaged file is refused and left alone."""
    try:
        arrays = report.load_npz(path)
        loss, score = arrays.pop("loss"), arrays.pop("score")
        return Trials(loss, score, **{name: float(number) for name, number in arrays.items()})
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is damaged: {error}; delete it to run the method again"
        ) from error


def write(comparison: Comparison, outcomes: Mapping[str, Outcome], out: Path) -> None:
    """Writes ``results.json``, ``table.md`` and the two plots."""
    report.save_json(
        out / "results.json",
        {
            "settings": {"comparison": comparison.name, **comparison.settings},
            "budgets": list(comparison.budgets),
            "methods": {
                name: {
                    **_summary(outcome),
                    "loss_minus": {other: against(outcomes, name, other) for other in outcomes},
                }
                for name, outcome in outcomes.items()
            },
        },
    )
    rows = table_rows(comparison, outcomes)
    text = report.table(rows, formats=table_formats(comparison), style="markdown")
    (out / "table.md").write_text(text + "\n", encoding="utf-8")
    budgets = np.asarray(comparison.budgets, dtype=float)
    curves = {
        name: report.curve(outcome.reached.loss.mean(axis=2).T, budgets)
        for name, outcome in outcomes.items()
    }
    scale = 100 if comparison.score_percent else 1
    bars = {name: over_tasks(o.reached.score[-1] * scale) for name, o in outcomes.items()}
    report.draw_curves(
        curves,
        out / "loss_against_budget.png",
        xlabel="budget (complete trainings)",
        ylabel=f"{comparison.loss_label} (best so far)",
        log_x=True,
        log_y=comparison.loss_log,
    )
    report.draw_bars(bars, out / "score_by_method.png", xlabel=score_unit(comparison))


def table_rows(comparison: Comparison, outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """One row a method: the loss at each budget, both measures at the last one, seconds."""
    *early, last = comparison.budgets
    scale = 100 if comparison.score_percent else 1
    rows = []
    for name, (trials, best) in outcomes.items():
        row: dict[str, Any] = {"method": name}
        for budget, loss in zip(early, best.loss, strict=False):
            row[f"@{budget}"] = None if np.isnan(loss).all() else float(loss.mean())
        row[f"{comparison.loss_label} @{last}"] = over_tasks(best.loss[-1])
        row[f"- {comparison.reference}"] = None
        if comparison.reference in outcomes and name != comparison.reference:
            row[f"- {comparison.reference}"] = against(outcomes, name, comparison.reference)
        row[score_unit(comparison)] = over_tasks(best.score[-1] * scale)
        row["compile s"] = trials.compile_seconds
        row["run s"] = trials.run_seconds
        row["learn s"] = trials.learning_seconds or None
        rows.append(row)
    return rows


def table_formats(comparison: Comparison) -> dict[str, str]:
    """How the table's numbers are written."""
    seconds = dict.fromkeys(("compile s", "run s", "learn s"), ".1f")
    loss = ".3g" if comparison.loss_log else ".3f"
    return {f"@{budget}": loss for budget in comparison.budgets} | seconds


def over_tasks(values: np.ndarray) -> report.Interval:
    """The mean of ``f[tasks, seeds]`` with its 95 % interval.

    Seeds of one task are not independent of each other, so they are averaged first and the
    interval is over tasks; with a single task it is over seeds.
    """
    return report.interval(values.mean(axis=1) if len(values) > 1 else values[0])


def score_unit(comparison: Comparison) -> str:
    """The score's label with its unit."""
    return comparison.score_label + (" %" if comparison.score_percent else "")


def against(outcomes: Mapping[str, Outcome], name: str, other: str) -> report.Interval:
    """The paired difference of two methods' last losses, negative where ``name`` is better."""
    return over_tasks(outcomes[name].reached.loss[-1] - outcomes[other].reached.loss[-1])


def _summary(outcome: Outcome) -> dict[str, Any]:
    trials, best = outcome
    return {
        "loss": [over_tasks(loss) for loss in best.loss],
        "score": [over_tasks(score) for score in best.score],
        "trainings_per_evaluation": trials.cost,
        "compile_seconds": trials.compile_seconds,
        "run_seconds": trials.run_seconds,
        "learning_seconds": trials.learning_seconds,
    }
