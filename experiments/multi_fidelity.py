"""Many short trainings or a hundred long ones: multi-fidelity search on learning curves.

LCBench is dense networks of seven hyperparameters on 34 data sets, each trained for 1 to 52 epochs;
what a training comes to is looked up in YAHPO's surrogate of it.  Minimised is the negative
validation accuracy on every seventh data set.  Whole trainings of 52 epochs, one after the other:
random search, ``tpe`` and ``gaussian_process``.  Trainings whose best third goes on from 2 to 6, 18
and 54 epochs: ``hyperband`` and ``asha``, and ``hyperband`` whose members come from ``tpe`` (BOHB)
or from ``gaussian_process``.  The last two of 54 epochs are charged, though the surrogate ends at
52.

The incumbent is the configuration with the lowest loss so far, after however many epochs.  Reported
is its regret after a whole training, (its loss - the best on record) / (the worst - the best),
against the epochs that were spent, in whole trainings; below 0 the surrogate is better than any
training on record.  Means over 20 seeds of the mean over the
data sets, with 95 % intervals.  The trainings that a method needs to reach what 100 whole ones of
random search, or of its own model, reach in the mean count to the end of its run where it does not.

Epochs are counted as if trainings were made one after the other: those of a rung in the order of
its slots.  A model's members are proposed for a whole bracket at once, as the strategies do.  The
hyperband of a process is shorter than the others, as its time grows with the cube of its points.
The data: YAHPO Gym's ``lcbench`` in ``yahpo`` of a folder that ``--path`` or METAHPO_DATA names.
Needs the extra ``surrogate``.

    python -m experiments.multi_fidelity [--quick] [--resume] [--path DATA]
"""

import os
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np

import metahpo as mh
from metahpo import strategies
from metahpo.problems.surrogate import Surrogate
from metahpo.report import interval
from metahpo.report.plots import COLORS, label_ends, scales
from metahpo.strategies.along_training.hyperband import schedule
from metahpo.study import Findings, Work, command, panels

METRIC = "val_accuracy"
WHOLE = 52  # epochs
RUNGS = [2, 6, 18, 54]  # epochs
MEMBERS = 27  # of the largest bracket
RANDOM, TPE, GP = "random", "TPE", "GP"
BAND, ASHA, BOHB, GP_BAND = "Hyperband", "ASHA", "Hyperband + TPE", "Hyperband + GP"
# The whole trainings that a method is compared with.
MODEL = {RANDOM: RANDOM, TPE: TPE, GP: GP, BAND: RANDOM, ASHA: RANDOM, BOHB: TPE, GP_BAND: GP}
LONG = "whole trainings"
COLOR = {LONG: "#777777", BAND: COLORS[0], ASHA: COLORS[1]}


class Size(NamedTuple):
    """How much is computed."""

    trainings: int = 100  # whole ones
    budgets: tuple[int, ...] = (12, 25, 50, 100)  # in whole trainings
    bands: int = 4  # all brackets, so many times
    process_bands: int = 2  # those of a process
    seeds: int = 20
    methods: tuple[Literal[*MODEL], ...] = tuple(MODEL)
    every: int = 7  # data set
    seed: int = 1
    path: Path | None = None  # of the data, by default METAHPO_DATA


QUICK = Size(trainings=28, budgets=(7, 14, 28), bands=2, process_bands=1, seeds=2, every=17)


class Found(NamedTuple):
    """What a method did on all data sets."""

    regret: np.ndarray  # f[tasks, seeds, trainings], of the incumbent by the epochs spent
    observed: np.ndarray  # f[tasks, seeds], evaluations


def read(size: Size) -> Surrogate:
    """The surrogate.

    Raises:
        ValueError: where nobody has said where it is.
    """
    found = size.path or os.environ.get("METAHPO_DATA")
    if found is None:
        raise ValueError("where the data are must be said by --path or METAHPO_DATA")
    return mh.problems.read_surrogate(Path(found) / "yahpo" / "lcbench")


def epochs_of_a_band() -> int:
    """Of all brackets of Hyperband."""
    brackets = schedule(MEMBERS, RUNGS, 3)
    return sum(rung.members * rung.granted for bracket in brackets for rung in bracket)


def strategy(method: str, space: mh.space.Space, size: Size) -> tuple[mh.Strategy, int, int]:
    """A method, its rounds, and the most epochs of a round."""
    if method == RANDOM:
        return strategies.random(space, size.trainings), 1, WHOLE
    if method in (TPE, GP):
        make = {TPE: strategies.tpe, GP: strategies.gaussian_process}[method]
        return make(space, 1, capacity=size.trainings), size.trainings, WHOLE
    if method == ASHA:
        # In the mean a configuration takes 2 epochs at first, and 4 / 3, 12 / 9 and 36 / 27 later.
        configurations = size.bands * epochs_of_a_band() // 6
        found = strategies.asha(space, configurations, RUNGS[-1], min_steps=RUNGS[0])
        promoted = sum(configurations // 3**i for i in range(len(RUNGS)))
        return found, promoted, max(np.diff(RUNGS))
    brackets = schedule(MEMBERS, RUNGS, 3)
    bands = size.process_bands if method == GP_BAND else size.bands
    makes = {BOHB: strategies.tpe, GP_BAND: strategies.gaussian_process}
    sampler = None
    if method in makes:
        sampler = makes[method](space, MEMBERS, capacity=bands * len(brackets) * MEMBERS)
    found = strategies.hyperband(space, MEMBERS, RUNGS[-1], min_steps=RUNGS[0], sampler=sampler)
    return found, bands * sum(map(len, brackets)), found.needs.steps


def at_once(made: mh.Strategy) -> int:
    """Members of a round."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda key: made.ask(key, made.init(key)), key)[0].unit.shape[0]


def search(method: str, surrogate: Surrogate, size: Size) -> Found:
    """All seeds on all data sets, in one program."""
    space = surrogate.space
    problem = mh.problems.surrogate(surrogate, METRIC)
    made, rounds, steps = strategy(method, space, size)

    width = max((one.members for one in made.needs.sizes), default=at_once(made))

    def run(key, task):
        """Losses, those after a whole training, and the epochs of every round's members."""
        found = mh.search(key, problem, space, made, rounds=rounds, steps=steps, task=task)
        history = found.history
        _, slots = jax.lax.top_k((history.budget > 0).astype(int), width)  # the first of equal ones

        def members(leaf):
            return jax.vmap(lambda row, slots: row[slots])(leaf, slots)

        def after_all(unit):
            return problem.loss(key, mh.space.decode(space, unit), task, WHOLE)

        whole = jax.vmap(jax.vmap(after_all))(members(history.unit))
        return members(history.loss), whole, members(history.budget)

    tasks = np.arange(0, len(surrogate.instances), size.every)
    keys = jax.random.split(jax.random.key(size.seed), size.seeds)
    program = jax.jit(jax.vmap(jax.vmap(run, (0, None)), (None, 0)))
    loss, whole, budget = (
        np.asarray(leaf, float).reshape(len(tasks), size.seeds, -1) for leaf in program(keys, tasks)
    )
    found = incumbents(np.where(budget > 0, loss, np.inf), whole, budget, size.trainings)
    low, high = (
        np.asarray(of[METRIC])[tasks][:, None, None] for of in (surrogate.best, surrogate.worst)
    )
    return Found(mh.problems.normalised_regret(found, low, high), (budget > 0).sum(-1))


def incumbents(
    loss: np.ndarray, whole: np.ndarray, epochs: np.ndarray, trainings: int
) -> np.ndarray:
    """``f[..., trainings]``: the incumbent's ``whole`` when so many trainings' epochs are spent.

    NaN where nothing is observed yet, and beyond the end.

    Args:
        loss: ``f[..., N]``, as observed, one after the other.
        whole: ``f[..., N]``, of the same configurations after a whole training.
        epochs: ``f[..., N]``, spent on each.
        trainings: up to so many.
    """
    best = np.minimum.accumulate(loss, -1)
    at = np.maximum.accumulate(np.where(loss == best, np.arange(loss.shape[-1]), 0), -1)
    held = np.take_along_axis(whole, at, -1)
    spent = np.cumsum(epochs, -1)
    found = np.full((*loss.shape[:-1], trainings), np.nan)
    for k in range(trainings):
        count = (spent <= WHOLE * (k + 1)).sum(-1)
        here = np.take_along_axis(held, np.maximum(count - 1, 0)[..., None], -1)[..., 0]
        there = (count > 0) & (spent[..., -1] > WHOLE * k)
        found[..., k] = np.where(there, here, np.nan)
    return found


def needed(regret: np.ndarray, target: float) -> np.ndarray:
    """``f[seeds]``: trainings until a regret ``f[seeds, trainings]`` is no more than a target."""
    count = np.isfinite(regret).sum(-1)
    low = np.nan_to_num(regret, nan=np.inf) <= target
    return np.where(low.any(-1), low.argmax(-1) + 1, count).astype(float)


def tabulate(means: dict[str, np.ndarray], size: Size) -> list[dict]:
    """A row a method."""
    rows = []
    for method, regret in means.items():
        row: dict = {"method": method}
        for budget in size.budgets:
            known = regret[:, budget - 1]
            row |= {f"regret @{budget}": interval(known)} if np.isfinite(known).all() else {}
        for name, of in {"random's": RANDOM, "its model's": MODEL[method]}.items():
            if of in means and of != method:
                until = needed(regret, float(means[of][:, -1].mean()))
                row[f"until {name} {size.trainings}"] = interval(until)
        rows.append(row)
    return rows


def curves(means: dict[str, np.ndarray]) -> dict:
    """Means and half-widths of all trainings at which there are any, by method."""
    found = {}
    for method, regret in means.items():
        there = np.flatnonzero(np.isfinite(regret).all(0))
        mean, half_width, _ = interval(regret[:, there])
        values = {"trainings": there + 1, "mean": mean, "half_width": half_width}
        found[method] = {
            name: [float(f"{value:.4g}") for value in np.asarray(row)]
            for name, row in values.items()
        }
    return found


def study(size: Size, work: Work) -> Findings:
    """Every method on every data set."""
    for budget in size.budgets:
        if not 1 <= budget <= size.trainings:
            raise ValueError(f"budgets must lie within 1 to {size.trainings}, got {budget}")
    surrogate = read(size)
    records = work.each(size.methods, lambda method: search(method, surrogate, size), Found)
    means = {method: records[method].regret.mean(axis=0) for method in size.methods}
    formats = {f"regret @{budget}": ".3g" for budget in size.budgets}
    formats |= {f"until {name} {size.trainings}": ".1f" for name in ("random's", "its model's")}
    notes = {
        "curves": curves(means),
        "evaluations": {name: float(records[name].observed.mean()) for name in size.methods},
        "data sets": list(surrogate.instances[:: size.every]),
    }
    return Findings(tabulate(means, size), formats=formats, notes=notes)


def title_of(results: dict) -> str:
    """What a quarter of the epochs is enough for."""
    size, rows = results["settings"], {row["method"]: row for row in results["rows"]}
    quarter, whole = (f"regret @{n}" for n in (size["trainings"] // 4, size["trainings"]))
    short = [method for method in rows if MODEL[method] != method and quarter in rows[method]]
    reached = [
        method
        for method in short
        if rows[method][quarter]["mean"] <= rows[MODEL[method]][whole]["mean"]
    ]
    return (
        f"{len(reached)} of {len(short)} methods of several fidelities reach in a quarter of the "
        f"epochs\nwhat {size['trainings']} whole trainings of their model reach"
    )


def plot(results, path) -> None:
    """Mean regret against the epochs spent with 95 % intervals, a panel a model."""
    drawn = results["curves"]
    models = [model for model in (RANDOM, TPE, GP) if model in drawn]
    lowest = min(min(curve["mean"]) for curve in drawn.values())
    highest = max(max(curve["mean"]) for curve in drawn.values())
    shape = {"squeeze": False, "sharex": True, "sharey": True, "legends": False}
    shape["title"] = title_of(results)
    with panels(path, 1, len(models), size=(8, 3.6), **shape) as grid:
        for axes, model in zip(grid.flat, models, strict=True):
            ends = {}
            for method, curve in drawn.items():
                if MODEL[method] != model:
                    continue
                name = LONG if method == model else method if method in COLOR else BAND
                at, mean, half = (np.array(curve[key], float) for key in curve)
                axes.plot(at, mean, color=COLOR[name], linewidth=1.6)
                band = mean - half, mean + half
                axes.fill_between(at, *band, color=COLOR[name], alpha=0.15, linewidth=0)
                if name == LONG:
                    axes.axhline(mean[-1], color=COLOR[name], linewidth=0.8, linestyle=":")
                ends[name] = mean[-1]
            axes.set(xlim=(1, results["settings"]["trainings"]))
            axes.set_ylim(lowest - 0.02, highest)
            scales(axes, at, True, False)
            axes.set_xticks(ticks := [1, 3, 10, 30, 100], ticks)
            axes.minorticks_off()
            axes.set_title(model, fontsize=10, loc="left")
            axes.grid(color="0.91", linewidth=0.6)
            axes.set_axisbelow(True)
            label_ends(axes, ends, COLOR, fontsize=8.5)
        grid[0, 0].figure.supxlabel(f"epochs spent, in whole trainings of {WHOLE}", fontsize=10)
        grid[0, 0].figure.supylabel("regret (95 % intervals over seeds)", fontsize=10)


PICTURES = {"multi_fidelity.png": plot}


if __name__ == "__main__":
    command("experiments.multi_fidelity", __doc__, study, Size(), QUICK, PICTURES)
