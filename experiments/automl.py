"""AutoML on small tables, beside a random forest and gradient boosting by their defaults.

Data sets of the Penn Machine Learning Benchmarks, one of every family of near-copies.  Half of the
families were there to choose everything by (``--part choose``), the committed table is of the other
half.  Each set is cut into training and test rows, 30 to 40 % of every class, the same for all.
Ours divides the training rows into five folds, the others, of scikit-learn, have no need to.  Loss
is the log loss, or the root mean squared error in units of the target's standard deviation; error
is the share of wrong labels, or the unexplained variance.  Seconds are of a processor, with
compilation, in one process for all sets.  Intervals are over data sets.

    python -m experiments.automl [--quick] [--resume] [--path DATA]
"""

import csv
import gzip
import os
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

import metahpo as mh
from metahpo import study as engine
from metahpo._extras import require
from metahpo.report import interval
from metahpo.report.plots import COLORS
from metahpo.study import Findings, Work, command, draw_intervals, panels

SETS = {
    "choose": (
        "breast-cancer", "cars", "cleveland", "flare", "haberman", "house-votes-84",
        "liver-disorder", "monk1", "saheart", "tic-tac-toe", "xd6",
        "557_analcatdata_apnea1", "1027_ESL", "586_fri_c3_1000_25",
    ),
    "report": (
        "analcatdata_dmft", "backache", "balance-scale", "ecoli", "hepatitis", "irish",
        "lymphography", "mux6", "prnn_fglass", "schizo", "sonar", "tokyo1", "wdbc",
        "1030_ERA", "195_auto_price", "210_cloud", "229_pwLinear", "666_rmftsa_ladata",
    ),
}  # fmt: skip
LESS, OURS, FOREST, BOOSTING = "metahpo, 36", "metahpo, 96", "random forest", "HistGradientBoosting"
METHODS = (OURS, LESS, FOREST, BOOSTING)
MODELS = ("linear", "boosting", "network", "neighbours", "discriminant")
TEST = 0.3


class Size(NamedTuple):
    """How much is computed."""

    part: Literal["report", "choose"] = "report"
    sets: int = 100  # at most
    cuts: int = 1
    path: Path | None = None  # of the data, by default METAHPO_DATA


QUICK = Size(sets=2, cuts=1)


def folder(size: Size) -> Path:
    """Of the data.

    Raises:
        ValueError: where nobody has said where it is.
    """
    found = size.path or os.environ.get("METAHPO_DATA")
    if found is None or not (Path(found) / "pmlb").is_dir():
        raise ValueError(f"the folder with pmlb/ must be said by --path or METAHPO_DATA: {found}")
    return Path(found) / "pmlb"


def read(data: Path, name: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """A set: inputs, target, whether it is a classification."""
    kinds = ("classification", "regression")
    found = [data / kind / f"{name}.tsv.gz" for kind in kinds]
    path = next(path for path in found if path.exists())
    with gzip.open(path, "rt", newline="") as file:
        _, *rows = csv.reader(file, delimiter="\t")
    table = np.array(rows, float)
    return table[:, :-1], table[:, -1], path.parent.name == "classification"


def cut(y: np.ndarray, classes: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows, of every class alike."""
    order = np.random.default_rng(seed).permutation(len(y))
    if classes:
        order = order[np.argsort(y[order], kind="stable")]
    # Rounding decides at whole numbers, so it is rather more than three tenths.
    test = np.arange(len(y)) * TEST % 1 < TEST
    return np.sort(order[~test]), np.sort(order[test])


def models(classes: bool, seed: int) -> dict[str, Any]:
    """By name."""
    forest = require("sklearn.ensemble", "automl")
    ours = mh.automl.Classifier if classes else mh.automl.Regressor
    kind = "Classifier" if classes else "Regressor"
    return {
        OURS: ours(models=MODELS, budget=96, seed=seed),
        LESS: ours(models=MODELS, budget=36, seed=seed),
        FOREST: getattr(forest, f"RandomForest{kind}")(random_state=seed),
        BOOSTING: getattr(forest, f"HistGradientBoosting{kind}")(random_state=seed),
    }


def measure(data: Path, name: str, seed: int) -> dict[str, np.ndarray]:
    """``f[methods]`` of every measure, and what the ensemble thought of itself."""
    x, y, classes = read(data, name)
    train, test = cut(y, classes, seed)
    loss, error, seconds, gap = [], [], [], []
    for model in models(classes, seed).values():
        begin = time.process_time()
        model.fit(x[train], y[train])
        out = model.predict_proba(x[test]) if classes else model.predict(x[test])
        seconds.append(time.process_time() - begin)
        if classes:
            place = np.searchsorted(model.classes_, y[test])
            own = np.clip(out[np.arange(len(test)), place], 1e-7, 1.0)
            loss.append(-np.log(own).mean())
            error.append(np.mean(model.classes_[out.argmax(1)] != y[test]))
        else:
            square = np.mean((out - y[test]) ** 2)
            loss.append(np.sqrt(square) / y[train].std())
            error.append(square / y[test].var())
        if hasattr(model, "score_"):
            gap.append(loss[-1] - model.score_ / (1.0 if classes else y[train].std()))
    return {
        "loss": np.array(loss),
        "error": np.array(error),
        "seconds": np.array(seconds),
        "gap": np.array([*gap, *[np.nan] * (len(loss) - len(gap))]),
    }


def study(size: Size, work: Work) -> Findings:
    data = folder(size)
    names = SETS[size.part][: size.sets]
    parts = work.each_seed(names, size.cuts, lambda name, seed: measure(data, name, seed))
    # f[sets, methods], the mean of the cuts
    mean = {
        key: np.stack([parts[name][key].mean(0) for name in names])
        for key in ("loss", "error", "seconds", "gap")
    }
    rows = []
    for i, method in enumerate(METHODS):
        row: dict[str, Any] = {"method": method}
        for key in ("loss", "error"):
            row[key] = interval(mean[key][:, i])
            if i:
                row[f"{key} - ours"] = interval(mean[key][:, i] - mean[key][:, 0])
        if i:
            better = mean["loss"][:, 0] < mean["loss"][:, i]
            row["ours is better"] = f"{int(better.sum())} of {len(names)}"
        if not np.isnan(mean["gap"][:, i]).any():
            row["test - out of fold"] = interval(mean["gap"][:, i])
        rows.append(row | {"seconds": interval(mean["seconds"][:, i])})
    sets = [
        {"set": name, **dict(zip(METHODS, losses.tolist(), strict=True))}
        for name, losses in zip(names, mean["loss"], strict=True)
    ]
    formats = {"loss": ".3f", "error": ".3f", "seconds": ".1f"}
    formats |= {f"{key} - ours": ".3f" for key in ("loss", "error")}
    return Findings(
        rows,
        formats=formats | {"test - out of fold": ".3f"},
        settings={"models": MODELS, "seconds": work.seconds},
        notes={"sets": sets},
    )


def plot(results, path) -> None:
    """What every method's loss is above ours, set by set."""
    sets, others = results["sets"], METHODS[1:]
    row = {row["method"]: row for row in results["rows"]}
    far = row[BOOSTING]["loss - ours"]["mean"]
    title = (
        f"Gradient boosting by its defaults is {engine.beside(far, '.2f')} our loss on the mean of "
        f"{len(sets)} small tables, a random forest "
        f"{engine.beside(row[FOREST]['loss - ours']['mean'], '.2f')}"
    )
    with panels(path, 1, 2, size=(8, 4.6), title=title, legends=False) as (left, right):
        names = [each["set"] for each in sets]
        for method, color in zip((FOREST, BOOSTING), COLORS, strict=False):
            away = [each[method] - each[OURS] for each in sets]
            left.plot(away, range(len(sets)), "o", color=color, markersize=4)
        left.axvline(0.0, color="0.7", linewidth=1, zorder=0)
        left.set_yticks(range(len(sets)), names, fontsize=8)
        left.set_ylim(len(sets) - 0.5, -0.5)
        left.set_xscale("symlog", linthresh=0.1)
        left.set_xlabel("loss - ours")
        cells = engine.column(results["rows"], "loss - ours", "method")
        colors = dict(zip((FOREST, BOOSTING), COLORS, strict=False))
        draw_intervals(right, {name: cells[name] for name in others}, colors=colors, digits=".2f")
        right.axvline(0.0, color="0.7", linewidth=1, zorder=0)
        right.set_xlabel("loss - ours, mean over sets")


PICTURES = {"losses.png": plot}

if __name__ == "__main__":
    command("experiments.automl", __doc__, study, Size(), QUICK, PICTURES, choices=("path",))
