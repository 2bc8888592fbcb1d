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
differences from random search paired by task.  The picture shows the median schedules of the best
members' lineages.  About three minutes on 2 cores.

    python -m experiments.pbt_digits [--quick] [--resume]
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from metahpo import strategies
from metahpo.comparisons import digits
from metahpo.comparisons.digits import evolution_population as population
from metahpo.report.plots import COLORS, label_ends, scales
from metahpo.study import (
    GRADIENT_COST,
    Findings,
    Setting,
    Work,
    beside,
    column,
    command,
    draw_intervals,
    on_all,
    paired,
    panels,
)

INTERVALS = 10
FROZEN = ("width", "activation")
BASE = "random search"
DIMENSIONS = mh.space.dimensions(digits.SPACE)
NAMES = list(DIMENSIONS)
SHOWN = ("learning_rate", "weight_decay", "label_smoothing")


class Size(NamedTuple):
    """How much is computed: tasks, seeds of each, trainings of each, and fresh ones in the end."""

    tasks: int = 24
    seeds: int = 5
    budget: int = 32
    again: int = 4


QUICK = Size(tasks=2, seeds=2, budget=8, again=2)


class Method(NamedTuple):
    """A strategy, its members and its rounds for a budget of trainings."""

    make: Callable[[int], mh.Strategy]
    members: Callable[[int], int]
    rounds: Callable[[int], int]
    intervals: int = 1  # rounds that make a training of all STEPS
    cost: float = 1.0  # of a round of one member, in trainings


def trained_on(make: Callable[..., mh.Strategy], **options) -> Method:
    """A population that trains on: as many members as there are trainings."""
    return Method(
        lambda budget: make(digits.SPACE, budget, frozen=FROZEN, **options),
        lambda budget: budget,
        lambda budget: INTERVALS,
        INTERVALS,
        1 / INTERVALS,
    )


def descent(budget: int) -> mh.Strategy:
    """Hypergradient descent from the default hyperparameters and a random point."""
    start = mh.space.encode(digits.SPACE, digits.defaults())[None]
    return strategies.hypergradient(digits.SPACE, 2, initial=start)


METHODS = {
    BASE: Method(
        lambda budget: strategies.random(digits.SPACE, budget), lambda budget: budget, lambda _: 1
    ),
    "DE": Method(
        lambda budget: strategies.differential_evolution(digits.SPACE, population(budget)),
        population,
        lambda budget: budget // population(budget),
    ),
    "hypergradient": Method(
        descent,
        lambda budget: 2,
        lambda budget: max(1, budget // (2 * GRADIENT_COST)),
        cost=GRADIENT_COST,
    ),
    "PBT": trained_on(strategies.pbt),
    "PBT, tournament": trained_on(strategies.pbt, selection="tournament"),
    "PB2": trained_on(strategies.pb2),
}


class Found(NamedTuple):
    """What a method found; leading axes ``[tasks, seeds]``."""

    loss: np.ndarray  # the lowest validation loss
    accuracy: np.ndarray  # the test accuracy that goes with it
    schedule: np.ndarray  # f[INTERVALS, D], points of the unit cube
    loss_again: np.ndarray  # the mean of the schedule from fresh weights
    accuracy_again: np.ndarray


def lineage(unit, parent, loss):
    """The hyperparameters f[rounds, D] that led to the best member of the last round.

    What stood before a start from scratch repeats the start.
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
    problem = digits.problem()
    hparams = jax.vmap(lambda unit: mh.space.decode(digits.SPACE, unit))(schedule)
    first, last = (jax.tree.map(lambda leaf, i=i: leaf[i], hparams) for i in (0, -1))
    go_on = mh.inner.advance(problem, digits.STEPS // len(schedule))
    begun = mh.inner.begin(problem, key, first, task)
    training, _ = jax.lax.scan(lambda t, now: (go_on(now, t), None), begun, hparams)
    loss = mh.inner.judge(problem, last, training)
    return loss, digits.test_accuracy(training.keys.loss, last, task, training.state)


def tune(method: Method, size: Size, setting: Setting) -> Found:
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

    return jax.tree.map(np.asarray, on_all(one, setting)[0])


def tabulate(found: dict[str, Found], size: Size):
    """Seeds of a task are averaged: the tasks are the independent values."""
    rows = {}
    for name, (_, members, rounds, _, cost) in METHODS.items():
        trainings = rounds(size.budget) * members(size.budget) * cost
        rows[name] = {"method": name, "trainings": round(trainings, 1)}
    for label, field, factor in (
        ("validation loss", "loss", 1),
        ("retrained", "loss_again", 1),
        ("test accuracy %", "accuracy", 100),
        ("retrained %", "accuracy_again", 100),
    ):
        means = {name: factor * getattr(x, field).mean(axis=1) for name, x in found.items()}
        for name, cells in paired(means, BASE, label, f"{label} - random").items():
            rows[name] |= cells
    return list(rows.values())


def study(size: Size, work: Work) -> Findings:
    """Every method on the same tasks and seeds."""
    setting = digits.setting(1, size.tasks, size.seeds, size.budget)
    found = work.each(METHODS, lambda name: tune(METHODS[name], size, setting), Found)
    rows = tabulate(found, size)
    medians = {
        name: {each: np.median(values(found[name].schedule, each), axis=(0, 1)) for each in SHOWN}
        for name in found
    }
    settings = {"inner steps": size.budget * digits.STEPS, "intervals": INTERVALS}
    return Findings(
        rows,
        settings=settings | {"seconds": work.seconds},
        notes={"median schedules": medians},
        arrays={name: each._asdict() for name, each in found.items()},
    )


def values(schedule: np.ndarray, name: str) -> np.ndarray:
    """A dimension's values along schedules ``f[..., D]``."""
    return np.asarray(DIMENSIONS[name].decode(schedule[..., NAMES.index(name)]))


def plot(results, path) -> None:
    """Paired differences from random search, and the median learning rates along training."""
    minus = {
        label: {
            name: cell
            for name, cell in column(results["rows"], f"{name} - random", "method").items()
            if name != BASE
        }
        for label, name in (
            ("best of the search", "validation loss"),
            ("trained again", "retrained"),
        )
    }
    search, again = (each["PBT"].mean for each in minus.values())
    title = (
        f"PBT's best loss is {beside(search, '.2f')} random search's; its schedules, "
        f"trained again, are {beside(again, '.2f')}"
    )
    medians = {name: each["learning_rate"] for name, each in results["median schedules"].items()}
    colors = dict(zip(medians, COLORS, strict=False))
    with panels(path, 1, 2, size=(8, 3.8), title=title) as (left, right):
        for (label, cells), shift, style in zip(
            minus.items(),
            (-0.15, 0.15),
            ({"fmt": "o"}, {"fmt": "s", "fillstyle": "none"}),
            strict=True,
        ):
            draw_intervals(left, cells, colors=colors, shift=shift, **style)
            first = next(iter(cells.values()))
            left.annotate(
                label,
                (first.mean - np.nan_to_num(first.half_width), shift),
                (-5, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=9,
                color="0.35",
            )
        left.axvline(0, color="0.4", linewidth=0.8)
        left.locator_params(axis="x", nbins=4)
        left.set(xlabel="validation loss minus random search's,\n95 % intervals, paired by task")
        edges = np.linspace(0, digits.STEPS, INTERVALS + 1)
        for name, rates in medians.items():
            right.stairs(rates, edges, baseline=None, color=colors[name], linewidth=1.8)
        right.set(xlabel="step", ylabel="learning rate, median")
        scales(right, edges, False, True)
        label_ends(right, {name: rates[-1] for name, rates in medians.items()}, colors)


PICTURES = {"pbt_digits.png": plot}


if __name__ == "__main__":
    command("experiments.pbt_digits", __doc__, study, Size(), QUICK, PICTURES)
