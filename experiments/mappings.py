"""From a task's description to its hyperparameters, on sets of real tuning data.

Every task is left out in turn, and what is suggested for it by those who know the others only is
looked up.  Regrets are normalised: 0 is the best of the configurations on record for a task, 1 the
worst.  One setting of every method for all sets:

- support vector machines, 100 data sets of PMLB with 525 configurations and 44 descriptors;
- LCBench, 34 data sets with 2,000 random configurations of dense networks, at epoch 52, by YAHPO's
  surrogate, with OpenML's descriptors: by balanced accuracy and by cross entropy;
- rpart, 95 data sets with 1,000 random configurations of decision trees, likewise, by log loss,
  with 8 descriptors;
- with ``--sets forest``, not in the committed table: random forests, 163 data sets of PMLB with 56
  configurations (those with missing scores are left out), several times as long as all others.

Surrogates are smooth, which flatters transfer.  Controls: descriptors exchanged among the tasks,
and descriptors that are all the same.  Intervals in the table are over tasks.

    python -m experiments.mappings [--quick] [--resume] [--path DATA]
"""

import csv
import json
import os
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np

import metahpo as mh
from metahpo import transfer
from metahpo.report import interval
from metahpo.report.plots import COLORS, label_ends, scales
from metahpo.study import Findings, Work, command, panels

AVERAGE, GREEDY, NEAREST = "best on average", "greedy", "nearest"
OURS = "conditioned"
METHODS = {
    AVERAGE: transfer.best_on_average,
    GREEDY: transfer.greedy_portfolio,
    NEAREST: transfer.nearest_tasks,
    OURS: transfer.conditioned_portfolio,
}
LABEL = {AVERAGE: "average", NEAREST: "nearest", GREEDY: "greedy", OURS: "conditioned"}
COLOR = dict(zip(LABEL, COLORS, strict=False))
K = (1, 2, 4, 8)


class Size(NamedTuple):
    """How much is computed."""

    sets: tuple[Literal["LCBench", "LCBench-ce", "SVC", "rpart", "forest"], ...] = (
        "LCBench", "LCBench-ce", "SVC", "rpart",
    )  # fmt: skip
    tasks: int = 1000  # at most
    controls: int = 1  # permutations
    seed: int = 1
    path: Path | None = None  # of the data, by default METAHPO_DATA


QUICK = Size(sets=("LCBench",), tasks=12, controls=1)


class Found(NamedTuple):
    """What a method did on a set."""

    regret: np.ndarray  # f[len(K), T]
    average: np.ndarray  # f[T], of the best on average
    chosen: np.ndarray  # i[T, 8]
    coverage: np.ndarray  # f[]
    log_density: np.ndarray  # f[]
    worth: np.ndarray  # f[len(K)]
    p_value: np.ndarray  # f[len(K)], against the greedy portfolio
    permuted: np.ndarray  # f[P, len(K), T]
    constant: np.ndarray  # f[len(K), T]


def folder(size: Size) -> Path:
    """Of the data.

    Raises:
        ValueError: where nobody has said where it is.
    """
    found = size.path or os.environ.get("METAHPO_DATA")
    if found is None:
        raise ValueError("where the data are must be said by --path or METAHPO_DATA")
    return Path(found)


def lcbench(data: Path, metric: str, key: jax.Array) -> transfer.Experience:
    """Surrogate evaluations with the qualities that OpenML lists of the data sets."""
    read = mh.problems.read_surrogate(data / "yahpo" / "lcbench")
    about = data / "mapping" / "lcbench_descriptors"
    names = json.loads((about / "lcbench_taskid_name.json").read_text())
    qualities = json.loads((about / "lcbench_openml_qualities.json").read_text())
    rows = [
        {name: np.nan if value is None else value for name, value in qualities[names[i]].items()}
        for i in read.instances
    ]
    return transfer.from_surrogate(key, read, metric, rows, 2000)


def rpart(data: Path, key: jax.Array) -> transfer.Experience:
    """Surrogate evaluations of the tasks whose descriptors are known."""
    read = mh.problems.read_surrogate(data / "yahpo" / "rbv2_rpart")
    ids = json.loads((data / "mapping" / "rbv2_dataid_to_taskid.json").read_text())
    with (data / "mapping" / "openml_metafeatures.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    table = {line[0]: dict(zip(head[1:], map(float, line[1:]), strict=True)) for line in lines}
    known = [name for name in read.instances if str(ids.get(name)) in table]
    rows = [table[str(ids[name])] for name in known]
    return transfer.from_surrogate(key, read, "logloss", rows, 1000, instances=known)


def experience(name: str, size: Size) -> transfer.Experience:
    """A set, with no more tasks than asked for, all of which have tried all configurations."""
    data, key = folder(size), jax.random.key(size.seed)
    if name == "forest":
        found = transfer.read_pmlb(data / "mapping" / "pmlb_RandomForestClassifier.npz")
    elif name == "SVC":
        found = transfer.read_pmlb(data / "mapping" / "pmlb_SVC.npz")
    elif name == "rpart":
        found = rpart(data, key)
    else:
        metric = "val_cross_entropy" if name == "LCBench-ce" else "val_balanced_accuracy"
        found = lcbench(data, metric, key)
    whole = np.flatnonzero(~np.isnan(found.losses()).any(1))
    return found.take(whole[: size.tasks])


def measure(method: str, name: str, size: Size) -> Found:
    """A method on a set; controls where descriptors are read."""
    found = transfer.evaluate(
        METHODS[method](),
        experience(name, size),
        K,
        key=jax.random.key(size.seed),
        controls=size.controls if method == OURS else 0,
    )
    return Found(
        found.regret,
        found.average,
        found.left_out.chosen,
        np.array(found.coverage),
        np.array(found.log_density),
        found.worth,
        found.p_value,
        found.permuted,
        found.constant,
    )


def error(values: np.ndarray) -> float:
    """The standard error of a mean."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def tabulate(found: dict, size: Size) -> list[dict]:
    """A row a set and method."""
    rows = []
    for name in size.sets:
        base = found[GREEDY, name].regret
        for method in METHODS:
            one = found[method, name]
            row = {"set": name, "method": method}
            row |= {f"regret @{k}": interval(one.regret[K.index(k)]) for k in (1, 4)}
            if method != GREEDY:
                row |= {
                    f"minus greedy @{k}": interval(one.regret[i] - base[i])
                    for i, k in enumerate(K)
                    if k in (1, 4)
                }
            row |= {"worth @1": float(one.worth[0]), "worth @4": float(one.worth[2])}
            row |= {"coverage": float(one.coverage)}
            rows.append(row)
    return rows


def judged(found: dict, size: Size) -> dict:
    """What was asked of the conditioned portfolio, by set."""
    verdicts = {}
    for name in size.sets:
        one, greedy = found[OURS, name], found[GREEDY, name]
        gain = one.average - one.regret[0]
        at_4 = greedy.regret[2] - one.regret[2]
        controlled = one.permuted[:, 0].mean(0) - one.average
        same = (one.chosen == greedy.chosen).all(1)
        verdicts[name] = {
            "tasks": len(gain),
            "saved @1": float(gain.mean() / one.average.mean()),
            "saved @1, errors": float(gain.mean() / max(error(gain), 1e-12)),
            "saved @4": float(at_4.mean() / greedy.regret[2].mean()),
            "saved @4, errors": float(at_4.mean() / max(error(at_4), 1e-12)),
            "p @1": float(one.p_value[0]),
            "p @4": float(one.p_value[2]),
            "gate closed": float(same.mean()),
            "permuted lose @1": float(controlled.mean()),
            "permuted lose @1, errors": float(controlled.mean() / error(one.average)),
            "constant is greedy": bool((one.constant == greedy.regret).all()),
            "coverage": float(one.coverage),
        }
    return verdicts


def study(size: Size, work: Work) -> Findings:
    """Every method on every set."""
    jobs = [(method, name) for name in size.sets for method in METHODS]
    found = work.each(jobs, lambda job: measure(*job, size), Found)
    formats = {"worth @1": ".1f", "worth @4": ".1f", "coverage": ".0%"}
    verdicts = judged(found, size)
    notes = {
        "verdicts": verdicts,
        "saved @1, mean over sets": float(np.mean([v["saved @1"] for v in verdicts.values()])),
        "curves": {
            name: {m: found[m, name].regret.mean(1).round(5).tolist() for m in LABEL}
            for name in size.sets
        },
    }
    return Findings(tabulate(found, size), formats=formats, notes=notes)


def plot(results, path) -> None:
    """Mean regret against the number of suggestions, one panel a set."""
    drawn = results["curves"]
    saved = results["saved @1, mean over sets"]
    title = (
        f"One suggestion from descriptors has {saved:.0%} less regret than the best on average, "
        "on the mean over sets"
    )
    rows = -(-len(drawn) // 2)
    shape = {"squeeze": False, "legends": False, "title": title}
    with panels(path, rows, min(2, len(drawn)), size=(5.8, 2.0 * rows + 0.5), **shape) as grid:
        for axes in grid.flat[len(drawn) :]:
            axes.set_axis_off()
        for axes, (name, curves) in zip(grid.flat, drawn.items(), strict=False):
            for method, curve in curves.items():
                axes.plot(K, curve, color=COLOR[method], marker="o", markersize=3, linewidth=1.5)
            axes.set(xlim=(1, 8))
            scales(axes, np.array(K), True, True)
            axes.set_xticks(K, map(str, K))
            axes.minorticks_off()
            axes.set_title(name, fontsize=10, loc="left")
            axes.grid(color="0.91", linewidth=0.6)
            axes.set_axisbelow(True)
            ends = {LABEL[method]: curve[-1] for method, curve in curves.items()}
            colors = {LABEL[method]: COLOR[method] for method in curves}
            label_ends(axes, ends, colors, fontsize=8.5)
        grid[0, 0].figure.supxlabel("suggestions tried", fontsize=10)
        grid[0, 0].figure.supylabel("mean normalised regret", fontsize=10)


PICTURES = {"mappings.png": plot}


if __name__ == "__main__":
    command("experiments.mappings", __doc__, study, Size(), QUICK, PICTURES, choices=("path",))
