"""Adaptation that goes on for longer than it was trained for, on the sinusoid.

MAML is trained with 1, 3 and 5 inner steps of 0.01, MAML++ and Meta-SGD with 5, FOMAML and Reptile
as in ``experiments.sinusoid``, whose protocol, network and rounds these are; then all adapt for up
to 100 steps with the rates that they have.  Who takes the fifth step's rates again and again, as
Meta-SGD and MAML++ do, need not gain by it: their rates are made for so many steps.  An
error of 10 is more than twice that of predicting zero, 4.25; "lasting" is the largest number of
steps up to which the error stays within 10 % of the best.

Errors on 10,000 fresh tasks of 100 points, 5 shots; means and 95 % intervals over three whole
trainings.  About a quarter of an hour on 2 cores.

    python -m experiments.longer_adaptation [--quick] [--resume]
"""

import os
from typing import NamedTuple

import jax
import numpy as np

from experiments import sinusoid
from experiments.sinusoid import METHODS, through
from metahpo.report import interval
from metahpo.report.plots import COLORS
from metahpo.study import Findings, Work, command, panels

SHOTS, LONGEST = 5, 100
SHOWN = (0, 1, 3, 5, 10, 30, 100)

LEARNERS = {
    "MAML, 1 step": METHODS["MAML"],
    "MAML, 3 steps": METHODS["MAML"]._replace(estimator=through(3), steps=3),
    "MAML, 5 steps": METHODS["MAML"]._replace(estimator=through(5), steps=5),
    "FOMAML, 1 step": METHODS["FOMAML"],
    "Reptile, 8 steps": METHODS["Reptile"],
    "Meta-SGD, 1 step": METHODS["Meta-SGD"],
    "Meta-SGD, 5 steps": METHODS["Meta-SGD"]._replace(estimator=through(5), steps=5),
    "MAML++, 5 steps": METHODS["MAML++, 5 steps"],
}
DRAWN = tuple(name for name in LEARNERS if name not in ("MAML, 3 steps", "Reptile, 8 steps"))


class Size(NamedTuple):
    """How much is computed, as in ``experiments.sinusoid``."""

    rounds: int = 70_000
    stages: int = 10
    seeds: int = 3
    episodes: int = 10_000


QUICK = Size(rounds=200, stages=2, seeds=2, episodes=200)


def study(size: Size, work: Work) -> Findings:
    """Mean errors of each training, of every learner, f[seeds, 101]."""

    def one_part(name, seed):
        train_key, test_key = jax.random.split(jax.random.key(sinusoid.FIRST_SEED + seed))
        method = LEARNERS[name]
        learned, _ = sinusoid.train(train_key, method, SHOTS, size, work.shown)
        errors = sinusoid.error_curve(test_key, method, SHOTS, learned, LONGEST, size.episodes)
        return {"errors": errors}

    parts = work.each_seed(LEARNERS, size.seeds, one_part)
    errors = {name: part["errors"] for name, part in parts.items()}
    return Findings(tabulate(errors))


def lasting(mean: np.ndarray) -> int:
    """The last step before the error leaves 1.1 times its minimum for the first time after it."""
    best = int(np.nanargmin(mean))
    outside = np.flatnonzero(~(mean[best:] <= 1.1 * mean[best]))
    return best + int(outside[0]) - 1 if outside.size else len(mean) - 1


def tabulate(errors: dict[str, np.ndarray]):
    rows = []
    for name, values in errors.items():
        mean = values.mean(axis=0)
        row = {"learner": name, "as trained": interval(values[:, LEARNERS[name].steps])}
        row |= {f"after {steps}": float(mean[steps]) for steps in SHOWN}
        rows.append(row | {"best step": int(np.nanargmin(mean)), "lasting": lasting(mean)})
    return rows


def plot(results, path) -> None:
    """Errors against steps, a dot with its interval at those of training."""
    rows = {row["learner"]: row for row in results["rows"]}
    ends = {name: row[f"after {LONGEST}"] for name, row in rows.items()}
    kept = {name: end for name, end in ends.items() if end <= sinusoid.HIGHEST}
    title = f"{len(rows) - len(kept)} of {len(rows)} learners diverge within {LONGEST} steps"
    if kept:
        best = min(kept, key=lambda name: kept[name])
        title += f"; of the others {best} errs least, by {kept[best]:.2g}"
    colors = dict(zip(DRAWN, COLORS, strict=False))
    with panels(path, size=(8, 4.6), title=title) as axes:
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlabel(
            f"adaptation steps of {len(DRAWN)} of the {len(rows)} learners\n"
            "(dots: those of training, with 95 % intervals)"
        )
        axes.set(ylabel="mean squared error, 5 shots")
        sinusoid.draw_steps(axes, SHOWN, {name: rows[name] for name in DRAWN}, colors)
        for name, color in colors.items():
            mean, half_width, _ = rows[name]["as trained"].values()
            axes.errorbar(LEARNERS[name].steps, mean, half_width, fmt="o", capsize=3, color=color)


PICTURES = {"longer_adaptation.png": plot}


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))  # one a core
    command("experiments.longer_adaptation", __doc__, study, Size(), QUICK, PICTURES)
