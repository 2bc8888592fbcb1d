"""Bayesian optimisation on published tables, beside Optuna's TPE.

Two families of tables hold the losses of every configuration of a network, each trained with
several seeds: HPOBench-NN (classification, 30,000 configurations of five integers) and HPOLib
(regression, 62,208 of six integers and three choices).  What is minimised is the mean loss over
the repeats, so an evaluation has no noise.

Every method evaluates 100 configurations, one after the other: Sobol's sequence and random search,
``gaussian_process`` and ``tpe`` with their defaults, and Optuna's TPESampler with its own.  Ours
run in one compiled program a family, vmapped over seeds and tables; Optuna's proposes from the
host.

Reported is the regret of the best configuration so far, (its loss - the lowest of the table) /
(the median of the table - the lowest): 0 is the best configuration, 1 the median one.  Means over
30 seeds with 95 % intervals; a family's mean is over its tables, seed by seed.  Needs the extras
``tabular`` and ``optuna``.  About six minutes of one core.

    python -m experiments.bayesian [--quick] [--resume]
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import numpy as np

import metahpo as mh
from metahpo import strategies
from metahpo._extras import require
from metahpo.problems import Table
from metahpo.report import interval
from metahpo.report.plots import COLORS, label_ends, scales
from metahpo.study import Findings, Work, command, panels

FAMILIES: dict[str, tuple[Callable[[str], Table], tuple[str, ...]]] = {
    "HPOBench-NN": (mh.problems.hpobench_nn, ("car", "kc1", "phoneme", "vehicle")),
    "HPOLib": (mh.problems.hpolib, ("naval_propulsion", "parkinsons_telemonitoring")),
}
# ``(space, trials) -> Strategy``, and whether all points are known from the start.
METHODS = {
    "random": (lambda space, trials: strategies.random(space, trials), True),
    "Sobol": (lambda space, trials: strategies.sobol(space, trials), True),
    "TPE": (lambda space, trials: strategies.tpe(space, 1, capacity=trials), False),
    "GP": (lambda space, trials: strategies.gaussian_process(space, capacity=trials), False),
}
OPTUNA = "Optuna's TPE"
COLOR = dict(zip(("GP", OPTUNA, "TPE", "Sobol"), COLORS, strict=False)) | {"random": "#777777"}
FIRST = 5  # trial of the pictures; nothing is learned before


class Size(NamedTuple):
    """How much is computed."""

    trials: int = 100
    budgets: tuple[int, ...] = (25, 50, 100)
    seeds: int = 30
    methods: tuple[Literal["random", "Sobol", "TPE", "GP", "Optuna's TPE"], ...] = (
        *METHODS,
        OPTUNA,
    )
    families: tuple[Literal[*FAMILIES], ...] = tuple(FAMILIES)
    tables: int = 4  # of a family, at most
    seed: int = 1


QUICK = Size(trials=20, budgets=(10, 20), seeds=2, families=("HPOLib",), tables=1)


class Found(NamedTuple):
    """What a method did on the tables of a family."""

    regret: np.ndarray  # f[tables, seeds, trials], of the best configuration so far


def names_of(family: str, size: Size) -> tuple[str, ...]:
    """The tables of a family that are searched."""
    return FAMILIES[family][1][: size.tables]


def read(family: str, size: Size) -> list[Table]:
    """The tables of a family, which have one space and the same configurations in one order."""
    tables = [FAMILIES[family][0](name) for name in names_of(family, size)]
    for table in tables:
        assert table.space == tables[0].space and (table.columns == tables[0].columns).all()
    return tables


def ours(name: str, tables: list[Table], size: Size) -> np.ndarray:
    """``f[tables, seeds, trials]``: the losses of a strategy, all runs in one program."""
    make, at_once = METHODS[name]
    table = tables[0]  # what differs is the task
    strategy = make(table.space, size.trials)
    problem = mh.problems.tabular(table, repeats="mean")
    rounds = 1 if at_once else size.trials

    def run(key, task):
        found = mh.search(key, problem, table.space, strategy, rounds=rounds, steps=1, task=task)
        return found.history.loss.reshape(-1)

    seeds = jax.vmap(run, in_axes=(0, None))
    program = jax.jit(jax.vmap(seeds, in_axes=(None, 0)))
    keys = jax.random.split(jax.random.key(size.seed), size.seeds)
    return np.asarray(program(keys, np.stack([table.scores for table in tables])), float)


def optunas(tables: list[Table], size: Size) -> np.ndarray:
    """``f[tables, seeds, trials]``: the losses of Optuna's sampler with its defaults."""
    optuna = require("optuna", "optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def run(table: Table, losses: dict[tuple, float], seed: int) -> list[float]:
        def objective(trial):
            place = [suggested(trial, name, dim) for name, dim in table.space.items()]
            return losses[tuple(place)]

        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        study.optimize(objective, n_trials=size.trials)
        return [trial.value for trial in study.trials]

    first = 1000 * size.seed
    return np.array(
        [
            [run(table, losses, first + seed) for seed in range(size.seeds)]
            for table in tables
            for losses in [by_configuration(table)]
        ]
    )


def by_configuration(table: Table) -> dict[tuple, float]:
    """The mean loss over repeats; of a choice the index of its value."""
    losses = table.scores[:, :, -1].mean(axis=1)
    return dict(zip(map(tuple, table.columns.tolist()), losses.tolist(), strict=True))


def suggested(trial, name: str, dim: mh.space.Dimension) -> float:
    """What a trial of Optuna proposes for a dimension, as ``Table.columns`` has it."""
    if isinstance(dim, mh.Choice):
        return float(dim.values.index(trial.suggest_categorical(name, dim.values)))
    return float(trial.suggest_int(name, dim.low, dim.high))


def search(method: str, family: str, size: Size) -> Found:
    """Runs a method on all tables of a family from all seeds."""
    tables = read(family, size)
    loss = optunas(tables, size) if method == OPTUNA else ours(method, tables, size)
    best = np.minimum.accumulate(loss, axis=-1)
    low, median = (
        np.array([getattr(table, name) for table in tables])[:, None, None]
        for name in ("best", "median")
    )
    # The losses of a compiled program are of single precision.
    return Found(np.maximum(mh.problems.normalised_regret(best, low, median), 0))


def by_table(records: dict[tuple[str, str], Found], size: Size):
    """``(table, method, f[seeds, trials])``: the regrets on every table."""
    for family in size.families:
        for i, table in enumerate(names_of(family, size)):
            for method in size.methods:
                yield table, method, records[method, family].regret[i]


def by_family(records: dict[tuple[str, str], Found], size: Size):
    """``(family, method, f[seeds, trials])``: the means over a family's tables, seed by seed."""
    for family in size.families:
        for method in size.methods:
            yield f"{family}, mean", method, records[method, family].regret.mean(axis=0)


def tabulate(records: dict[tuple[str, str], Found], size: Size) -> list[dict]:
    """A row a table, or a family, and method."""
    return [
        {"table": label, "method": method}
        | {f"regret @{budget}": interval(regret[:, budget - 1]) for budget in size.budgets}
        for label, method, regret in (*by_table(records, size), *by_family(records, size))
    ]


def places(trials: int) -> np.ndarray:
    """The numbers of trials at which curves are drawn."""
    return np.unique(np.geomspace(1, trials, 24).round().astype(int))


def curves(records: dict[tuple[str, str], Found], size: Size) -> dict:
    """Means and half-widths at ``places``, by family and method."""
    at = places(size.trials)
    found: dict = {}
    for label, method, regret in by_family(records, size):
        mean, half_width, _ = interval(regret[:, at - 1])
        shown = {"mean": rounded(mean), "half_width": rounded(half_width)}
        found.setdefault(label, {})[method] = shown
    return {"trials": at.tolist(), "regret": found}


def rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.3g}") for value in values]


def study(size: Size, work: Work) -> Findings:
    """Every method on every family."""
    for budget in size.budgets:
        if not 1 <= budget <= size.trials:
            raise ValueError(f"budgets must lie within 1 to {size.trials} trials, got {budget}")
    jobs = [(method, family) for family in size.families for method in size.methods]
    records = work.each(jobs, lambda job: search(*job, size), Found)
    rows = tabulate(records, size)
    formats = {f"regret @{budget}": ".2g" for budget in size.budgets}
    return Findings(rows, formats=formats, notes={"curves": curves(records, size)})


def plot(results, path) -> None:
    """Mean regret against trials with 95 % intervals, one panel a family."""
    trials, found = np.array(results["curves"]["trials"]), results["curves"]["regret"]
    labels = list(found)
    last = {
        method: float(np.mean([found[label][method]["mean"][-1] for label in labels]))
        for method in found[labels[0]]
    }
    best = min(last, key=lambda method: last[method])
    title = (
        f"After {trials[-1]} trials {best} has the lowest regret of {len(last)} methods in the "
        f"mean over the panels, {last[best]:.2g}; that of {OPTUNA} is {last[OPTUNA]:.2g}"
        if best != OPTUNA
        else f"After {trials[-1]} trials {best} has the lowest regret of {len(last)} methods"
    )
    rows, late = -(-len(labels) // 2), trials >= min(FIRST, trials[-1])
    shape = {"squeeze": False, "sharex": True, "legends": False, "title": title}
    with panels(path, rows, min(len(labels), 2), size=(8, 1.2 + 2.5 * rows), **shape) as grid:
        for axes, label in zip(grid.flat, labels, strict=False):
            lowest = min(min(curve["mean"]) for curve in found[label].values())
            axes.set(xlim=(trials[late][0], trials[-1]))
            scales(axes, trials, True, True)
            axes.set_xticks(ticks := [x for x in (5, 10, 20, 50, 100) if x <= trials[-1]], ticks)
            axes.minorticks_off()
            for i, (method, curve) in enumerate(found[label].items()):
                mean, half = (np.array(curve[name], float)[late] for name in curve)
                low = np.minimum(half, mean - lowest / 10)  # zero is infinitely far below
                axes.plot(trials[late], mean, color=COLOR[method], linewidth=1.6)
                few = slice(2 + i % 3, None, 3)  # side by side rather than upon each other
                bars = {"fmt": "none", "color": COLOR[method], "elinewidth": 0.9, "alpha": 0.7}
                axes.errorbar(trials[late][few], mean[few], [low[few], half[few]], **bars)
            axes.set_ylim(bottom=0.5 * lowest)
            axes.set_title(label, fontsize=10, loc="left")
            axes.grid(color="0.91", linewidth=0.6)
            axes.set_axisbelow(True)
            ends = {method: curve["mean"][-1] for method, curve in found[label].items()}
            label_ends(axes, ends, COLOR, fontsize=8.5)
        grid[0, 0].figure.supxlabel("trials", fontsize=10)
        grid[0, 0].figure.supylabel("regret (95 % intervals over seeds)", fontsize=10)


PICTURES = {"bayesian.png": plot}


if __name__ == "__main__":
    command("experiments.bayesian", __doc__, study, Size(), QUICK, PICTURES)
