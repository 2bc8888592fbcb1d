"""Population based training on digits, beside random search, evolution and hypergradients.

A masked two-layer network is trained by AdamW for 100 steps of 32 images, on held-out tasks drawn
from scikit-learn's digits (5 to 10 classes, 20 to 400 images, noisy labels and pixels); tuned are
the learning rate, the weight decay, the label smoothing, the width and the activation.  Every
method gets 32 trainings of a task, that is 3,200 inner steps; a hypergradient is charged as three
trainings.  The PBTs train 32 members side by side, in 10 intervals of 10 steps, and inherit width
and activation as they are.

All choose by the validation loss.  Reported are the lowest one within the budget and the test
accuracy that goes with it; and both once more for what was found, hyperparameters or schedule,
trained again from fresh weights.  That tells good schedules from a lucky member: the best of many
losses is always too good.  Means over 24 tasks with 5 seeds each; 95 % intervals over tasks,
differences from random search paired by task.  The picture shows the schedules of the best members'
lineages.  About three minutes on 2 cores.

    python -m experiments.pbt_digits [--out results/pbt_digits] [--quick]
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from metahpo import strategies
from metahpo.compare import digits
from metahpo.run.progress import reporter

INTERVALS = 10
FROZEN = ("width", "activation")
BASE = "random search"
NAMES = list(mh.space.dimensions(digits.SPACE))


class Size(NamedTuple):
    """How much is computed: tasks, seeds of each, trainings of each, and fresh ones in the end."""

    tasks: int = 24
    seeds: int = 5
    budget: int = 32
    again: int = 4


FULL = Size()
QUICK = Size(tasks=2, seeds=2, budget=8, again=2)


class Method(NamedTuple):
    """A strategy for a budget of trainings.

    Attributes:
        make: ``(budget) -> Strategy``.
        rounds: ``(budget) -> int``.
        intervals: rounds that make a training of all ``STEPS``.
        cost: of a round of one member, in trainings.
    """

    make: Callable[[int], mh.Strategy]
    rounds: Callable[[int], int]
    intervals: int = 1
    cost: float = 1.0


def population(budget: int) -> int:
    return digits.evolution_population(budget)


def trained_on(make: Callable[..., mh.Strategy], **options) -> Method:
    """A population that trains on: as many members as there are trainings."""
    return Method(
        lambda budget: make(digits.SPACE, budget, frozen=FROZEN, **options),
        lambda budget: INTERVALS,
        INTERVALS,
        1 / INTERVALS,
    )


def descent(budget: int) -> mh.Strategy:
    """Hypergradient descent from the default hyperparameters and a random point."""
    start = mh.space.encode(digits.SPACE, digits.defaults())[None]
    return strategies.hypergradient(digits.SPACE, 2, initial=start)


METHODS = {
    BASE: Method(lambda budget: strategies.random(digits.SPACE, budget), lambda budget: 1),
    "DE": Method(
        lambda budget: strategies.differential_evolution(digits.SPACE, population(budget)),
        lambda budget: budget // population(budget),
    ),
    "hypergradient": Method(
        descent,
        lambda budget: max(1, budget // (2 * digits.GRADIENT_COST)),
        cost=digits.GRADIENT_COST,
    ),
    "PBT": trained_on(strategies.pbt),
    "PBT, tournament": trained_on(strategies.pbt, selection="tournament"),
    "PB2": trained_on(strategies.pb2),
}


class Found(NamedTuple):
    """What a method found; leading axes ``[tasks, seeds]``.

    Attributes:
        loss: the lowest validation loss.
        accuracy: the test accuracy that goes with it.
        schedule: ``f[INTERVALS, D]``, points of the unit cube, one for each interval.
        loss_again: the validation loss of the schedule from fresh weights, the mean.
        accuracy_again: its test accuracy.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    schedule: np.ndarray
    loss_again: np.ndarray
    accuracy_again: np.ndarray


def lineage(unit, parent, loss):
    """The hyperparameters that led to the best member of the last round.

    Args:
        unit: ``f[rounds, P, D]``.
        parent: ``i32[rounds, P]``; negative where a member began from scratch.
        loss: ``f[rounds, P]``.

    Returns:
        ``f[rounds, D]``; what stood before a start from scratch repeats the start.
    """

    def back(carry, record):
        member, known, point = carry
        units, parents = record
        point = jnp.where(known, units[member], point)
        known &= parents[member] >= 0
        return (jnp.maximum(parents[member], 0), known, point), point

    start = (jnp.argmin(loss[-1]), jnp.ones((), bool), unit[-1, 0])
    return jax.lax.scan(back, start, (unit, parent), reverse=True)[1]


def train(key, task, schedule):
    """Validation loss and test accuracy of one training, ``schedule`` f[INTERVALS, D]."""
    problem, keys = digits.problem(), mh.inner.keys(key)
    hparams = jax.vmap(lambda unit: mh.space.decode(digits.SPACE, unit))(schedule)
    step_keys = mh.inner.step_keys(keys.steps, digits.STEPS)
    step_keys = step_keys.reshape(len(schedule), digits.STEPS // len(schedule))

    def interval(state, x):
        now, some_keys = x
        return jax.lax.scan(lambda s, k: (problem.step(k, now, task, s), None), state, some_keys)

    first, last = (jax.tree.map(lambda leaf, i=i: leaf[i], hparams) for i in (0, -1))
    state, _ = jax.lax.scan(interval, problem.init(keys.init, first, task), (hparams, step_keys))
    loss = problem.loss(keys.loss, last, task, state)
    return loss, digits.test_accuracy(keys.loss, last, task, state)


def tune(method: Method, size: Size, setting: digits.Setting) -> Found:
    """Runs a method on all tasks and seeds, in one program."""
    strategy, rounds = method.make(size.budget), method.rounds(size.budget)
    problem, steps = digits.problem(), digits.STEPS // method.intervals
    gradient = mh.hypergrad.reverse(problem, steps, "none") if strategy.needs_grad else None

    def one(key, task):
        search_key, again_key = jax.random.split(key)
        history = mh.search(
            search_key,
            problem,
            digits.SPACE,
            strategy,
            rounds=rounds,
            steps=steps,
            task=task,
            estimator=gradient,
            metrics=digits.test_accuracy,
        ).history
        best = jnp.argmin(history.loss)
        if method.intervals > 1:
            schedule = lineage(history.unit, history.parent, history.loss)
        else:
            point = history.unit.reshape(-1, len(NAMES))[best]
            schedule = jnp.broadcast_to(point, (INTERVALS, len(NAMES)))
        fresh = jax.random.split(again_key, size.again)
        again = jax.vmap(train, in_axes=(0, None, None))(fresh, task, schedule)
        return Found(
            history.loss.reshape(-1)[best],
            history.metrics.reshape(-1)[best],
            schedule,
            *(values.mean() for values in again),
        )

    return jax.tree.map(np.asarray, digits.on_all(one, setting)[0])


def tabulate(found: dict[str, Found], size: Size):
    """Seeds of a task are averaged: the tasks are the independent values."""
    columns = (
        ("validation loss", "loss", 1),
        ("retrained", "loss_again", 1),
        ("test accuracy %", "accuracy", 100),
        ("retrained %", "accuracy_again", 100),
    )
    rows = []
    for name, each in found.items():
        method = METHODS[name]
        members = size.budget if method.intervals > 1 or name == BASE else population(size.budget)
        members = 2 if name == "hypergradient" else members
        row = {
            "method": name,
            "trainings": round(method.rounds(size.budget) * members * method.cost, 1),
        }
        for label, field, factor in columns:
            value = factor * getattr(each, field).mean(axis=1)
            row[label] = mh.report.interval(value)
            if name != BASE and BASE in found:
                base = factor * getattr(found[BASE], field).mean(axis=1)
                row[f"{label} - random"] = mh.report.interval(value - base)
        rows.append(row)
    return rows


def study(size: Size = FULL, seed: int = 1, progress: bool = False):
    """Everything that the table and the picture show."""
    begin = time.perf_counter()
    setting = digits.setting(seed, size.tasks, size.seeds, size.budget)
    found = {}
    with reporter(progress, "PBT on digits", len(METHODS)) as show:
        for name, method in METHODS.items():
            found[name] = tune(method, size, setting)
            lowest = min(float(each.loss.mean()) for each in found.values())
            show(len(found), lowest, len(found) == len(METHODS))
    return tabulate(found, size), found, time.perf_counter() - begin


def values(schedule: np.ndarray, name: str) -> np.ndarray:
    """A dimension's values along schedules ``f[..., D]``."""
    column = NAMES.index(name)
    return np.asarray(mh.space.dimensions(digits.SPACE)[name].decode(schedule[..., column]))


def plot(rows, found: dict[str, Found], path: Path) -> None:
    """Paired differences, and the schedules of the best lineages; needs matplotlib."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 4, figsize=(16, 4.2), layout="constrained")
    colors = {name: f"C{i}" for i, name in enumerate(found)}
    compared = [row for row in rows if row["method"] != BASE]
    left = panels[0]
    for i, row in enumerate(compared):
        for shift, column, marker in ((-0.12, "validation loss", "o"), (0.12, "retrained", "s")):
            mean, half, _ = row[f"{column} - random"]
            left.errorbar(
                mean,
                i + shift,
                xerr=half,
                fmt=marker,
                fillstyle="full" if marker == "o" else "none",
                color=colors[row["method"]],
                capsize=3,
            )
    left.plot([], [], "o", color="0.3", label="best of the search")
    left.plot([], [], "s", color="0.3", fillstyle="none", label="trained again")
    left.axvline(0, color="0.4", linewidth=0.8)
    left.locator_params(axis="x", nbins=4)
    left.set_yticks(range(len(compared)), [row["method"] for row in compared])
    left.set(xlabel="validation loss minus random search's", ylim=(len(compared) - 0.5, -0.5))
    left.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    edges = np.linspace(0, digits.STEPS, INTERVALS + 1)
    names = ("learning_rate", "weight_decay", "label_smoothing")
    for axes, name in zip(panels[1:], names, strict=True):
        log = mh.space.dimensions(digits.SPACE)[name].log
        one = values(found["PBT"].schedule, name).reshape(-1, INTERVALS)
        for i, line in enumerate(one[:40]):
            label = "PBT, single runs" if i == 0 else None
            axes.stairs(line, edges, color="0.8", linewidth=0.5, baseline=None, label=label)
        for method in found:
            schedules = values(found[method].schedule, name).reshape(-1, INTERVALS)
            mean = np.exp(np.log(schedules).mean(0)) if log else schedules.mean(0)
            style = "-" if METHODS[method].intervals > 1 else ":"
            axes.stairs(
                mean,
                edges,
                color=colors[method],
                linewidth=2,
                linestyle=style,
                label=method,
                baseline=None,
            )
        kind = "geometric mean" if log else "mean"
        axes.set(xlabel="step", ylabel=f"{name.replace('_', ' ')}, {kind}")
        if log:
            axes.set_yscale("log")
    panels[1].legend(framealpha=0.9, edgecolor="none", fontsize=8)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/pbt_digits"))
    parser.add_argument("--quick", action="store_true", help="2 tasks, 2 seeds, 8 trainings")
    arguments = parser.parse_args()
    size, out = QUICK if arguments.quick else FULL, arguments.out
    rows, found, seconds = study(size, progress=True)
    mh.report.print_table(rows)
    schedules = {
        name: {
            dimension: np.median(values(found[name].schedule, dimension), axis=(0, 1))
            for dimension in ("learning_rate", "weight_decay", "label_smoothing")
        }
        for name in found
    }
    settings = {
        **size._asdict(),
        "inner steps": size.budget * digits.STEPS,
        "intervals": INTERVALS,
        "seconds": round(seconds, 1),
    }
    notes = {"settings": settings, "median schedules": schedules}
    mh.report.save_json(out / "results.json", notes | {"rows": rows})
    mh.report.save_npz(out / "arrays.npz", {name: each._asdict() for name, each in found.items()})
    try:
        plot(rows, found, out / "pbt_digits.png")
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'metahpo[plot]')")


if __name__ == "__main__":
    main()
