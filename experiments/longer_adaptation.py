"""Adaptation that goes on for longer than it was trained for, on the sinusoid.

MAML is trained with 1, 3 and 5 inner steps of 0.01, MAML++ and Meta-SGD with 5, FOMAML and Reptile
as in ``experiments.sinusoid``, whose protocol, network and rounds these are; then all adapt for up
to 100 steps with the rates that they have.  Who takes the fifth step's rates again and again, as
Meta-SGD and MAML++ do, need not gain by it: their rates are made for so many steps.  An
error of 10 is more than twice that of predicting zero, 4.25; "lasting" is the largest number of
steps up to which the error stays within 10 % of the best.

Errors on 10,000 fresh tasks of 100 points, 5 shots; means and 95 % intervals over three whole
trainings.  Trainings are kept under ``parts``, so an interrupted study goes on from there.  About
a quarter of an hour on 2 cores.

    python -m experiments.longer_adaptation [--out results/longer_adaptation] [--quick]
"""

import argparse
import functools
import itertools
import os
from pathlib import Path

import jax
import numpy as np

import metahpo as mh
from experiments import sinusoid
from experiments.sinusoid import METHODS, Method, Size, through
from metahpo.run.progress import reporter

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


def one_part(method: Method, seed: int, size: Size, report) -> dict[str, np.ndarray]:
    """Errors f[101, 2] of one training, and its skipped updates."""
    keys = jax.random.split(jax.random.key(sinusoid.FIRST_SEED + seed), 2)
    hparams, skipped, _ = sinusoid.train(keys[0], method, SHOTS, size, report)
    errors = sinusoid.error_curve(keys[1], method, SHOTS, hparams, LONGEST, size.episodes)
    return {"errors": errors, "skipped": np.array(skipped)}


def study(out: Path, size: Size = sinusoid.FULL, progress: bool = False):
    """Mean errors of each training, ``{learner: f[seeds, 101]}``."""
    errors: dict[str, list[np.ndarray]] = {name: [] for name in LEARNERS}
    trainings = list(itertools.product(LEARNERS, range(size.seeds)))
    with reporter(
        progress, "longer adaptation", len(trainings) * size.stages, value="loss"
    ) as show:
        for done, (name, seed) in enumerate(trainings):
            stages = itertools.count(done * size.stages + 1)
            tell = functools.partial(lambda stages, loss: show(next(stages), loss), stages)
            file = out / "parts" / f"{name}-{seed}-{size.rounds}.npz"
            if not file.exists():
                mh.report.save_npz(file, one_part(LEARNERS[name], seed, size, tell))
            errors[name].append(mh.report.load_npz(file)["errors"][:, 0])
    return {name: np.array(each) for name, each in errors.items()}


def lasting(mean: np.ndarray) -> int:
    """The last step before the error leaves 1.1 times its minimum for the first time after it."""
    best = int(np.nanargmin(mean))
    outside = np.flatnonzero(~(mean[best:] <= 1.1 * mean[best]))
    return best + int(outside[0]) - 1 if outside.size else len(mean) - 1


def tabulate(errors: dict[str, np.ndarray]):
    rows = []
    for name, values in errors.items():
        mean = values.mean(axis=0)
        row = {"learner": name, "as trained": mh.report.interval(values[:, LEARNERS[name].steps])}
        row |= {f"after {steps}": float(mean[steps]) for steps in SHOWN}
        rows.append(row | {"best step": int(np.nanargmin(mean)), "lasting": lasting(mean)})
    return rows


def plot(errors: dict[str, np.ndarray], path: Path) -> None:
    """Errors against steps, a dot at those of training; needs matplotlib."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    steps = np.arange(LONGEST + 1)
    for i, (name, values) in enumerate(errors.items()):
        mean = values.mean(axis=0)
        axes.plot(steps, mean, color=f"C{i}", label=name)
        axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=f"C{i}", alpha=0.15)
        trained = LEARNERS[name].steps
        axes.plot(trained, mean[trained], "o", color=f"C{i}")
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlabel="adaptation steps", ylabel="mean squared error, 5 shots", yscale="log")
    axes.set_xlim(0, LONGEST)
    axes.set_ylim(top=10)
    axes.set_xticks([0, 1, 3, 5, 10, 30, 100], ["0", "1", "3", "5", "10", "30", "100"])
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/longer_adaptation"))
    parser.add_argument("--quick", action="store_true", help="200 rounds, 2 seeds, 200 tasks")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    size, out = sinusoid.QUICK if arguments.quick else sinusoid.FULL, arguments.out
    errors = study(out, size, progress=True)
    rows = tabulate(errors)
    mh.report.print_table(rows)
    mh.report.save_json(out / "results.json", {"settings": size._asdict(), "rows": rows})
    try:
        plot(errors, out / "longer_adaptation.png")
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'metahpo[plot]')")


if __name__ == "__main__":
    main()
