"""Runs a comparison: methods one after another, each saved when it is finished."""

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
        loss_drawn: losses above are left out of the picture.
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
    loss_drawn: float = math.inf


class Outcome(NamedTuple):
    """One method's trials, and what they had reached at each budget."""

    trials: Trials
    reached: Reached


def run(
    comparison: Comparison, names: Sequence[str], out: Path, resume: bool
) -> dict[str, Outcome]:
    """Runs the named methods and saves what each one did in ``out``.

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
