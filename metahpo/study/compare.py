"""Comparing methods on a problem of one's own: a table, files and pictures from one call."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from metahpo import checks, report
from metahpo import space as spaces
from metahpo.base import Problem, Task
from metahpo.run.look import look
from metahpo.study.comparison import Comparison, Outcome, run
from metahpo.study.findings import write
from metahpo.study.methods import as_method
from metahpo.study.results import as_findings
from metahpo.study.setting import Metric, make_setting


class Compared(dict[str, Outcome]):
    """What ``compare`` found: an ``Outcome`` by method, and what the table says.

    Printed it is the table.

    Attributes:
        comparison: what was compared.
        rows: of the table, one dictionary a method.
    """

    def __init__(self, comparison: Comparison, outcomes: Mapping[str, Outcome]) -> None:
        super().__init__(outcomes)
        self.comparison = comparison
        self._found = as_findings(comparison, outcomes)
        self.rows = self._found.rows

    def __str__(self) -> str:
        """The table."""
        return report.table(self.rows, formats=self._found.formats)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes ``results.json``, ``table.md`` and the pictures into a folder."""
        write(Path(directory), self._found)


def compare(
    problem: Problem,
    space: spaces.Space,
    methods: Mapping[str, Any],
    *,
    budget: int,
    steps: int,
    tasks: int | Task = 1,
    seeds: int = 5,
    seed: int = 0,
    metric: Metric | None = None,
    metric_label: str = "metric",
    loss_label: str = "loss",
    reference: str | None = None,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Compared:
    """Compares methods on the same tasks and seeds, with the same budget.

    Every method may spend ``budget`` complete trainings of ``steps`` steps on a task; a
    hypergradient is charged as three.  What was learned before on other tasks is not charged.

    Args:
        problem: the training process.
        space: of its hyperparameters.
        methods: by name, in the order of the table: a ``Strategy``; an ``Estimator`` (descent along
            its hypergradients from two random points); hyperparameters such as your defaults,
            trained again and again; or a function ``(study.Setting) -> study.Trials``, such as
            ``study.searched(strategy, ...)`` and ``study.mapped(network, weights)`` give.
        budget: complete trainings that a method may spend on a task, at least 1.
        steps: inner steps of a complete training, at least 1.
        tasks: how many tasks to draw from ``problem.sample``, or tasks with a leading axis.
        seeds: repetitions on each task.
        seed: of everything random.
        metric: ``(key, hparams, task, state) -> f[]``, reported of the training with the lowest
            loss, such as a test accuracy; nothing is selected by it.
        metric_label: its name, with its unit.
        loss_label: what the loss is.
        reference: the method that the others' losses are compared with, pair by pair; the first by
            default.
        directory: a folder for the table, ``results.json`` and pictures (these need the extra
            ``plot``); each method is kept there as soon as it is finished.
        resume: go on with the comparison there; finished methods are taken from the folder.
        progress: whether to tell on the standard error stream how far the work is.

    Returns:
        A ``Compared``: the trials by method; ``print`` shows the table.  Means are over tasks (over
        seeds where there is a single task), with 95 % intervals; with a single value there is none.

    Raises:
        ValueError: for what is no method, a strategy for another space, numbers below 1, a folder
            that is not empty (without ``resume``) or holds another comparison (with it).

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(-1.0, 1.0)}
        >>> compared = mh.compare(
        ...     mh.problems.function(lambda h: (h["x"] - 0.3) ** 2 + h["y"] ** 2),
        ...     space,
        ...     {"default": {"x": 0.0, "y": 0.0}, "snes": mh.strategies.snes(space, 6)},
        ...     budget=60, steps=1, progress=False,
        ... )
        >>> for row in compared.rows:
        ...     print(row["method"], f"{row['loss @60'].mean:.2f}")
        default 0.09
        snes 0.00
    """
    comparison = comparison_of(
        problem,
        space,
        methods,
        budget=budget,
        steps=steps,
        tasks=tasks,
        seeds=seeds,
        seed=seed,
        metric=metric,
        metric_label=metric_label,
        loss_label=loss_label,
        reference=reference,
    )
    if resume and directory is None:
        raise ValueError("resume=True needs the directory to go on in, got directory=None")
    out = None if directory is None else Path(directory)
    compared = Compared(comparison, run(comparison, list(methods), out, resume, progress))
    if out is not None:
        compared.save(out)
    return compared


def comparison_of(
    problem: Problem,
    space: spaces.Space,
    methods: Mapping[str, Any],
    *,
    budget: int,
    steps: int,
    tasks: int | Task = 1,
    seeds: int = 5,
    seed: int = 0,
    effort: float = 1.0,
    metric: Metric | None = None,
    metric_label: str = "metric",
    metric_percent: bool = False,
    loss_label: str = "loss",
    budgets: Sequence[int] | None = None,
    reference: str | None = None,
    name: str = "own",
    settings: Mapping[str, Any] | None = None,
) -> Comparison:
    """A ``Comparison`` that is not run yet: the arguments of ``compare``, and how it is shown.

    A share is shown in percent (``metric_percent``); ``settings`` decide whether a run may be
    resumed, ``budgets`` are those that the table reports, and ``effort`` is the share of their
    usual work that methods put into learning on other tasks.
    """
    budget, steps, seeds = checks.counts(budget=budget, steps=steps, seeds=seeds)
    checks.record("problem", problem, Problem, "mh.problems.training or mh.problems.function")
    spaces.size(space)
    if not methods:
        raise ValueError("a comparison needs at least one method, got none")
    reference = next(iter(methods)) if reference is None else reference
    if reference not in methods:
        raise ValueError(f"reference must be one of {', '.join(methods)}, got {reference!r}")
    if isinstance(tasks, int):
        tasks = checks.whole("tasks", tasks)
    setting = make_setting(
        problem,
        space,
        steps,
        metric,
        tasks=tasks,
        seeds=seeds,
        budget=budget,
        seed=seed,
        effort=effort,
    )
    # Before minutes of work rather than after.
    look(problem, space, jax.tree.map(lambda leaf: leaf[0], setting.tasks))
    return Comparison(
        name=name,
        methods={n: as_method(n, value, setting) for n, value in methods.items()},
        setting=setting,
        settings=settings
        or {
            "tasks": len(setting.keys),
            "seeds": seeds,
            "budget": budget,
            "steps": steps,
            "seed": seed,
        },
        budgets=powers(2, budget) if budgets is None else budgets,
        loss_label=loss_label,
        score_label=None if metric is None else metric_label,
        reference=reference,
        score_percent=metric_percent,
    )


def powers(base: int, budget: int) -> list[int]:
    """1, base, base**2, ... up to the budget, and the budget itself."""
    budgets = [1]
    while budgets[-1] * base <= budget:
        budgets.append(budgets[-1] * base)
    return budgets if budgets[-1] == budget else [*budgets, budget]
