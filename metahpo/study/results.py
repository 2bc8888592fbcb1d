"""What a comparison found: a table, a JSON file and two pictures."""

import textwrap
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metahpo import report
from metahpo.report.plots import MOST_LINES
from metahpo.study.comparison import Comparison, Outcome
from metahpo.study.findings import Findings, Picture

Outcomes = Mapping[str, Outcome]


def as_findings(comparison: Comparison, outcomes: Outcomes) -> Findings:
    """The table, what ``results.json`` holds and the pictures."""
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
    results = {
        "settings": {"comparison": comparison.name, **comparison.settings},
        "budgets": list(comparison.budgets),
        "methods": methods,
    }
    pictures = {name: partial(draw, results) for name, draw in redrawn(comparison).items()}
    if comparison.score_label is not None and comparison.score_drawn:
        pictures["score_by_method.png"] = partial(_draw_scores, comparison, outcomes)
    return Findings(
        table_rows(comparison, outcomes),
        formats=table_formats(comparison),
        results=results,
        pictures=pictures,
    )


def redrawn(comparison: Comparison) -> dict[str, Picture]:
    """The pictures that ``results.json`` alone suffices for, as for ``redraw``."""
    return {"loss_against_budget.png": partial(_draw_losses, comparison)}


def _draw_losses(comparison: Comparison, results: Mapping[str, Any], path: Path) -> None:
    of, drawn = len(results["methods"]), _drawn(comparison, results["methods"])
    methods = {name: results["methods"][name] for name in drawn}
    means = np.array([[_cell(loss).mean for loss in each["loss"]] for each in methods.values()])
    means = np.where(means <= comparison.loss_drawn, means, np.nan)
    paired = results["settings"].get("tasks", 1) > 1 and len(methods) > 1
    half_widths = _without_shared(methods) if paired else _own(methods)
    budgets = np.asarray(results["budgets"], dtype=float)
    best = "" if of == len(drawn) else f"the best {len(drawn) - 1} of {of} methods; "
    about = textwrap.fill(f"{best}bands: {_interval_label(paired)}", 60)
    report.draw_curves(
        {
            name: report.Curve(budgets, mean, half_width)
            for name, mean, half_width in zip(methods, means, half_widths, strict=True)
        },
        path,
        xlabel=f"budget (complete trainings)\n{about}",
        ylabel=f"{comparison.loss_label}, best so far",
        title=_finding(comparison, results["methods"]),
        log_x=True,
        log_y=comparison.loss_log or _spans_magnitudes(means),
    )


def _drawn(comparison: Comparison, methods: Mapping[str, Any]) -> list[str]:
    """The reference and the methods with the lowest last losses, in the order of the table."""
    last = {name: float(_cell(each["loss"][-1]).mean) for name, each in methods.items()}
    last[comparison.reference] = -np.inf
    best = sorted(methods, key=lambda name: last[name])[:MOST_LINES]
    return [name for name in methods if name in best]


def _own(methods: Mapping[str, Any]) -> np.ndarray:
    """``f[methods, budgets]``: half-widths of the losses' own intervals."""
    losses = [each["loss"] for each in methods.values()]
    return np.array([[_cell(loss).half_width for loss in each] for each in losses])


def _without_shared(methods: Mapping[str, Any]) -> np.ndarray:
    """Half-widths as ``report.without_shared_differences`` gives them, of paired differences.

    The variance of ``x_m - mean(x)`` over the methods is the mean variance of ``x_m - x_j`` less
    half the mean of all ``x_i - x_j``; squared half-widths stand in for variances.
    """
    pairs = np.array(
        [
            [[_cell(loss).half_width for loss in one["loss_minus"][other]] for other in methods]
            for one in methods.values()
        ]
    )
    squares = np.ma.masked_invalid(pairs**2)  # a method may have nothing at the first budgets
    own = squares.mean(axis=1) - squares.mean(axis=(0, 1)) / 2
    scale = len(methods) / (len(methods) - 1)
    return np.sqrt(scale * np.ma.filled(own, np.nan))


def _cell(cell: Any) -> report.Interval:
    """An interval, as it is in memory or as ``results.json`` has it."""
    return report.Interval(**cell) if isinstance(cell, dict) else cell


def _finding(comparison: Comparison, methods: Mapping[str, Any]) -> str:
    """Who ends lowest, beside the reference."""
    last = {name: float(_cell(each["loss"][-1]).mean) for name, each in methods.items()}
    lowest = min(last, key=lambda name: last[name] if np.isfinite(last[name]) else np.inf)
    reference = comparison.reference
    against = f", {reference} at {last[reference]:.3g}" if reference in last else ""
    if lowest == reference:
        against = ""
    return f"{lowest} ends lowest, at {last[lowest]:.3g}{against}"


def _spans_magnitudes(means: np.ndarray) -> bool:
    """Whether differences between the best methods would vanish on a linear axis."""
    means = means[np.isfinite(means)]
    return bool(means.size) and means.min() > 0 and means.max() > 100 * means.min()


def _draw_scores(comparison: Comparison, outcomes: Outcomes, path: Path) -> None:
    scale = 100 if comparison.score_percent else 1
    units = np.stack([_units(outcome.reached.score[-1] * scale) for outcome in outcomes.values()])
    paired = next(iter(outcomes.values())).reached.loss.shape[1] > 1 and len(outcomes) > 1
    scores = report.without_shared_differences(units) if paired else units
    digits = 1 if comparison.score_percent else 3
    means = dict(zip(outcomes, units.mean(axis=-1), strict=True))
    highest, reference = max(means, key=lambda name: means[name]), comparison.reference
    against = f", {reference} at {means[reference]:.{digits}f}" if reference in means else ""
    report.draw_bars(
        {name: report.interval(values) for name, values in zip(outcomes, scores, strict=True)},
        path,
        xlabel=f"{score_unit(comparison)}, {_interval_label(paired)}",
        title=f"{highest} ends highest, at {means[highest]:.{digits}f}{against}",
        digits=digits,
        from_zero=False,
    )


def _interval_label(paired: bool) -> str:
    return "95 % intervals" + (", differences between tasks taken out" if paired else "")


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
