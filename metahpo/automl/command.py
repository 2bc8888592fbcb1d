"""From a CSV file to a report, as ``python -m metahpo automl`` has it."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from metahpo import report, study
from metahpo._files import atomic_write, writable_folder
from metahpo.automl import summary
from metahpo.automl.estimators import Classifier, Regressor
from metahpo.report.plots import COLORS, as_text
from metahpo.transfer.advice import read_columns

MOST_ROWS = 1000
"""Rows that importances are computed on."""
REPEATS = 5
_SHOWN = 12  # columns and configurations, in pictures and on the terminal
_MARGIN = np.array([-0.1, 0.1])  # around nearly all scores
_NUMBERS = 100  # different ones that are rather numbers than labels


def run(
    train: Path,
    target: str,
    test: Path | None,
    kind: str | None,
    settings: dict[str, Any],
    groups: str | None,
    out: Path,
) -> Any:
    """Fits, and writes ``results.json``, ``table.md``, a picture, predictions and the model.

    Args:
        train: a CSV file with a line of names.
        target: the column that is to be predicted.
        test: another one, with or without the target.
        kind: ``"classification"``, ``"regression"``, or what the target looks like.
        settings: of the estimator.
        groups: a column whose rows of one value validate together; it is no input.
        out: the folder.

    Returns:
        The estimator.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: for files without these columns, and what ``fit`` refuses.
    """
    out = writable_folder(out)
    columns = read_columns(train, needs=target)
    rows = None if test is None else read_columns(test)
    y, held = columns.pop(target), None
    if groups is not None:
        if groups not in columns:
            raise ValueError(f"{train} must have the column {groups!r} of groups: {list(columns)}")
        held = columns.pop(groups)
    if any(value is None for value in y):
        raise ValueError(f"the target {target!r} must not be missing in any row of {train}")
    regression = _is_regression(y) if kind is None else kind == "regression"
    model = (Regressor if regression else Classifier)(progress=True, **settings)
    model.fit(columns, y, groups=held)
    notes: dict[str, Any] = {"kind": "regression" if regression else "classification"}
    judged = (columns, y)
    if rows is not None:
        rows.pop(groups, None) if groups else None
        truth = rows.pop(target, None)
        unseen = model._raw(rows)
        _write_predictions(out / "predictions.csv", model, rows, target)
        if truth is not None and all(value is not None for value in truth):
            judged = (rows, truth)
            loss = model._judge.loss(unseen, *model._judged(truth, len(truth)))
            notes["test"] = model._unit(float(loss))
    notes |= _about(model)
    importances = model.explain(*_some(*judged), repeats=REPEATS)
    board = [_row(row) for row in model.leaderboard()]
    picture = {"report.png": lambda path: draw(path, model, importances)}
    found = study.Findings(
        board,
        formats=_formats(model),
        settings={"train": str(train), "target": target, **settings},
        notes={**notes, "importances": importances, "pipeline": model.pipeline().splitlines()},
        pictures=picture,
    )
    study.write(out, found)
    model.save(out / "model.npz")
    report.print_table(board[:_SHOWN], formats=_formats(model), title=f"{target} of {train}")
    print(f"\n{model.pipeline()}")
    if "test" in notes:
        print(f"on {test}: {model._judge.name} {notes['test']:.4g}")
    print(f"\nThe report, the predictions and the model are in {out}")
    return model


def draw(path: Path, model: Any, importances: list[dict[str, Any]]) -> None:
    """What was tried, and which columns matter."""
    title = (
        f"The ensemble's out-of-fold {model._judge.name} is {model.score_:.4g}, that of the best "
        f"of {model.trainings_} configurations {model.leaderboard()[0][model._judge.name]:.4g}"
    )
    names = list(dict.fromkeys(trial.family for trial in model.trials_))
    with study.panels(path, 1, 2, size=(8, 3.8), title=title, legends=False) as (left, right):
        for name, color in zip(names, COLORS, strict=False):
            own = [(i, t) for i, t in enumerate(model.trials_, 1) if t.family == name]
            scores = [model._unit(trial.loss) for _, trial in own]
            left.plot([i for i, _ in own], scores, ".", color=color)
            at = 0.97 - 0.07 * names.index(name)
            left.text(0.98, at, name, transform=left.transAxes, color=color, ha="right", va="top")
        left.axhline(model.score_, color="0.35", linewidth=1, linestyle=":")
        worst = np.quantile([model._unit(trial.loss) for trial in model.trials_], (0.1, 0.9))
        left.set_ylim(*(np.sort([model.score_, *worst])[[0, -1]] + _MARGIN * np.ptp(worst)))
        left.set_xlabel("configuration")
        left.set_ylabel(f"out-of-fold {model._judge.name}")
        shown = {
            as_text(str(row["column"]))[:24]: row["importance"] for row in importances[:_SHOWN]
        }
        study.draw_intervals(right, shown)
        right.axvline(0.0, color="0.8", linewidth=1, zorder=0)
        right.set_xlabel("rise of the loss when shuffled")


def _is_regression(y: np.ndarray) -> bool:
    numbers = all(isinstance(value, float) for value in y)
    return numbers and (len(set(y)) > _NUMBERS or any(value != round(value) for value in y))


def _about(model: Any) -> dict[str, Any]:
    return {
        "metric": model._judge.name,
        "out of fold": model.score_,
        "trainings": model.trainings_,
        "rounds": [{"model": name, "configurations": n} for name, n in model.rounds_],
        "stopped by": model.stopped_,
        "seconds": round(model.seconds_, 1),
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "hyperparameters": summary.values(row["hyperparameters"])}


def _formats(model: Any) -> dict[str, str]:
    return {model._judge.name: ".4f", "share": ".3f", "worse by": ".4f"}


def _some(x: dict[str, np.ndarray], y: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Evenly spaced rows, not too many."""
    rows = np.unique(np.linspace(0, len(y) - 1, min(len(y), MOST_ROWS)).astype(int))
    return {name: column[rows] for name, column in x.items()}, y[rows]


def _write_predictions(path: Path, model: Any, rows: dict[str, np.ndarray], target: str) -> None:
    """The prediction of every row, and of a classification the chances."""
    text = io.StringIO()
    writer = csv.writer(text)
    if isinstance(model, Classifier):
        chances = model.predict_proba(rows)
        labels = model.classes_[chances.argmax(1)]
        writer.writerow([target, *(f"chance of {label}" for label in model.classes_)])
        writer.writerows([a, *map(float, p)] for a, p in zip(labels, chances, strict=True))
    else:
        writer.writerow([target])
        writer.writerows([float(value)] for value in model.predict(rows))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
