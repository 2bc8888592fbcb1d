"""What a comparison found: a table, a JSON file and two pictures."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metahpo import report
from metahpo.study.comparison import Comparison, Outcome
from metahpo.study.findings import Findings

Outcomes = Mapping[str, Outcome]


def as_findings(comparison: Comparison, outcomes: Outcomes) -> Findings:
    """The table, what ``results.json`` holds and the two pictures."""
    budgets = range(len(comparison.budgets))
    methods = {
        name: {
            **_summary(outcome, scored=comparison.score_label is not None),
            "loss_minus": {
                other: [against(outcomes, name, other, i) for i in budgets] for other in outcomes
            },
        }
        for name, outcome in outcomes.items()
    }
    pictures = {"loss_against_budget.png": partial(_draw_losses, comparison, outcomes)}
    if comparison.score_label is not None and comparison.score_drawn:
        pictures["score_by_method.png"] = partial(_draw_scores, comparison, outcomes)
    return Findings(
        table_rows(comparison, outcomes),
        formats=table_formats(comparison),
        results={
            "settings": {"comparison": comparison.name, **comparison.settings},
            "budgets": list(comparison.budgets),
            "methods": methods,
        },
        pictures=pictures,
    )


_MOST_DRAWN = 6


def _drawn(comparison: Comparison, outcomes: Outcomes) -> list[str]:
    """The reference and the methods with the lowest last losses, in the order of the table."""
    last = {name: float(outcome.reached.loss[-1].mean()) for name, outcome in outcomes.items()}
    last[comparison.reference] = -np.inf
    best = sorted(outcomes, key=lambda name: last[name])[:_MOST_DRAWN]
    return [name for name in outcomes if name in best]


def _draw_losses(comparison: Comparison, outcomes: Outcomes, path: Path) -> None:
    of = len(outcomes)
    drawn = _drawn(comparison, outcomes)
    outcomes = {name: outcomes[name] for name in drawn}
    losses = _comparable([outcome.reached.loss for outcome in outcomes.values()])
    losses = np.where(losses <= comparison.loss_drawn, losses, np.nan)
    best = "" if of == len(drawn) else f"; the best {len(drawn) - 1} of {of} methods"
    budgets = np.asarray(comparison.budgets, dtype=float)
    report.draw_curves(
        {
            name: report.curve(values.T, budgets)
            for name, values in zip(outcomes, losses, strict=True)
        },
        path,
        xlabel=f"budget (complete trainings){best}; bands: {_interval_label(outcomes)}",
        ylabel=f"{comparison.loss_label}, best so far",
        title=_finding(comparison, outcomes),
        log_x=True,
        log_y=comparison.loss_log or _spans_magnitudes(losses),
    )


def _finding(comparison: Comparison, outcomes: Outcomes) -> str:
    """Who ends lowest, beside the reference."""
    last = {name: float(outcome.reached.loss[-1].mean()) for name, outcome in outcomes.items()}
    lowest = min(last, key=lambda name: last[name] if np.isfinite(last[name]) else np.inf)
    reference = comparison.reference
    against = f", {reference} at {last[reference]:.3g}" if reference in last else ""
    if lowest == reference:
        against = ""
    return f"{lowest} ends lowest, at {last[lowest]:.3g}{against}"


def _spans_magnitudes(losses: np.ndarray) -> bool:
    """Whether differences between the best methods would vanish on a linear axis."""
    means = losses.mean(axis=-1)
    means = means[np.isfinite(means)]
    return bool(means.size) and means.min() > 0 and means.max() > 100 * means.min()


def _draw_scores(comparison: Comparison, outcomes: Outcomes, path: Path) -> None:
    scale = 100 if comparison.score_percent else 1
    scores = _comparable([outcome.reached.score[-1] * scale for outcome in outcomes.values()])
    report.draw_bars(
        {name: report.interval(values) for name, values in zip(outcomes, scores, strict=True)},
        path,
        xlabel=score_unit(comparison),
        title=_interval_label(outcomes),
        digits=1 if comparison.score_percent else 3,
        from_zero=False,
    )


def _comparable(values: Sequence[np.ndarray]) -> np.ndarray:
    """``f[methods, ..., n]``, for pictures, without what all methods have in common on a task."""
    units = np.stack([_units(method) for method in values])
    paired = values[0].shape[-2] > 1 and len(values) > 1
    return report.without_shared_differences(units) if paired else units


def _interval_label(outcomes: Outcomes) -> str:
    tasks = next(iter(outcomes.values())).reached.loss.shape[1]
    shared = ", differences between tasks taken out" if tasks > 1 and len(outcomes) > 1 else ""
    return f"95 % intervals{shared}"


def table_rows(comparison: Comparison, outcomes: Outcomes) -> list[dict[str, Any]]:
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
        if comparison.score_label is not None:
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
    """The mean of ``f[tasks, seeds]`` with its 95 % interval."""
    return report.interval(_units(values))


def _units(values: np.ndarray) -> np.ndarray:
    """``f[..., tasks, seeds]`` as independent values ``f[..., n]``.

    Seeds of one task are not independent of each other, so they are averaged and the tasks are
    the values; of a single task the seeds are.
    """
    return values.mean(axis=-1) if values.shape[-2] > 1 else values[..., 0, :]


def score_unit(comparison: Comparison) -> str:
    """The score's label with its unit."""
    assert comparison.score_label is not None
    return comparison.score_label + (" %" if comparison.score_percent else "")


def against(outcomes: Outcomes, name: str, other: str, budget: int = -1) -> report.Interval:
    """The paired difference of two methods' losses, negative where ``name`` is better.

    Args:
        outcomes: of all methods.
        name: the method.
        other: the one that it is compared with.
        budget: index of the budget, the last by default.
    """
    return over_tasks(outcomes[name].reached.loss[budget] - outcomes[other].reached.loss[budget])


def _summary(outcome: Outcome, scored: bool) -> dict[str, Any]:
    trials, best = outcome
    score = {"score": [over_tasks(score) for score in best.score]} if scored else {}
    return {
        "loss": [over_tasks(loss) for loss in best.loss],
        **score,
        "trainings_per_evaluation": trials.cost,
        "compile_seconds": trials.compile_seconds,
        "run_seconds": trials.run_seconds,
        "learning_seconds": trials.learning_seconds,
    }
