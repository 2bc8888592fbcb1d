"""Methods on the same tasks and seeds, one after another, each saved when it is finished."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metahpo.study.trials import Reached, Trials, reached
from metahpo.study.work import Work, prepare


class Comparison(NamedTuple):
    """What is compared, and how it is reported.

    Attributes:
        name: of the comparison.
        methods: ``(setting) -> Trials`` by name, in the order of the table.
        setting: what every method is given.
        settings: the numbers that decide the results, as JSON; a resumed run must have the same.
        budgets: the budgets to report, in complete trainings, ascending.
        loss_label: what the validation loss is.
        score_label: what the score is, ``None`` without one.
        reference: the method that the others' last losses are compared with, pair by pair.
        score_percent: whether the score is a share to be shown in percent.
        score_drawn: whether there is a picture of the scores.
        loss_log: whether to draw the loss on a logarithmic axis.
        loss_drawn: losses above are left out of the picture.
    """

    name: str
    methods: Mapping[str, Callable[[Any], Trials]]
    setting: Any
    settings: Mapping[str, Any]
    budgets: Sequence[int]
    loss_label: str
    score_label: str | None
    reference: str
    score_percent: bool = False
    score_drawn: bool = True
    loss_log: bool = False
    loss_drawn: float = math.inf


class Outcome(NamedTuple):
    """One method's trials, and what they had reached at each budget."""

    trials: Trials
    reached: Reached


def run(
    comparison: Comparison,
    names: Sequence[str],
    out: Path | None,
    resume: bool = False,
    shown: bool = True,
) -> dict[str, Outcome]:
    """Runs the named methods and saves what each one did in ``out``.

    Args:
        comparison: what to compare.
        names: methods of it.
        out: the results folder, new or empty unless ``resume``; without one nothing is kept.
        resume: take methods that ``out`` already holds from there.
        shown: whether to tell on the standard error stream how far the work is.

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
    settings = {"comparison": comparison.name, **comparison.settings}
    work = Work(None if out is None else prepare(out, settings, resume), shown)
    found = work.each(names, lambda name: comparison.methods[name](comparison.setting), Trials)
    return {
        name: Outcome(trials, reached(trials, comparison.budgets)) for name, trials in found.items()
    }
