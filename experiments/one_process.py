"""One process, methods of every kind: how far each stays from the exact optimum.

The process is ``rl.chebyshev`` with numbers for actions: gradient descent takes 20 steps on
quadratics with condition number 100, an action is the rate of a step, and the return is minus the
logarithm of the worst error ratio.  ``rl.problem`` makes a Problem of it whose hyperparameters are
a policy's weights, here an action for each time; so whatever tunes hyperparameters plays the same
episodes, and the best return is known (3.32; Chebyshev's rates).

Every method gets 20,000 episodes; a hypergradient through the transitions (reverse mode) is charged
as 3, one by evolution strategies as the episodes that it plays.  Regret is the best return that
there is minus the best one found: the mean over 10 seeds with 95 % intervals.  At the optimum 21
maxima of the error are equal, so the return has a kink there and a gradient sees one of them at a
time.  About a minute on 2 cores.

    python -m experiments.one_process [--quick] [--resume]
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import numpy as np
import optax

import metahpo as mh
from metahpo import strategies
from metahpo.report import interval
from metahpo.report.plots import COLORS, label_ends, scales
from metahpo.study import Findings, Work, column, command, panels

CONDITION, STEPS = 100.0, 20
EXACT = mh.rl.chebyshev(CONDITION, STEPS, continuous=True)
SPACE = {"actions": mh.Float(-1.0, 1.0, shape=(STEPS,))}
STARTS, PAIRS, SIGMA = 8, 8, 0.003
REVERSE_COST = 3


class Method(NamedTuple):
    """A strategy for a number of rounds, what an evaluation costs, and whose gradients it takes."""

    strategy: Callable[[int], mh.Strategy]
    population: int
    cost: int = 1
    estimator: Callable[[mh.Problem], mh.Estimator] | None = None


def descent(rounds: int) -> mh.Strategy:
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, rounds))
    return strategies.hypergradient(SPACE, STARTS, optimizer)


METHODS = {
    "random search": Method(lambda rounds: strategies.random(SPACE, 64), 64),
    "DE": Method(lambda rounds: strategies.differential_evolution(SPACE, 40), 40),
    "CMA-ES": Method(lambda rounds: strategies.cma_es(SPACE, 12), 12),
    "ES gradient": Method(
        descent,
        STARTS,
        2 * PAIRS,
        lambda process: mh.hypergrad.es(process, STEPS, pairs=PAIRS, sigma=SIGMA),
    ),
    "hypergradient": Method(
        descent, STARTS, REVERSE_COST, lambda process: mh.hypergrad.reverse(process, STEPS)
    ),
}


class Size(NamedTuple):
    """How much is computed; a budget counts episodes."""

    budgets: tuple[int, ...] = (1_000, 5_000, 20_000)
    seeds: int = 10
    methods: tuple[Literal[*METHODS], ...] = tuple(METHODS)


QUICK = Size(budgets=(200, 1_000), seeds=3, methods=("CMA-ES", "hypergradient"))


class Found(NamedTuple):
    """What a method found."""

    regrets: np.ndarray  # f[seeds, budgets]
    curve: np.ndarray  # f[seeds, points], the regret after numbers of episodes


def process() -> mh.Problem:
    """Episodes whose policy has an action for each time."""
    return mh.rl.problem(EXACT.environment, lambda key, weights, time: weights["actions"][time])


def points(budget: int) -> np.ndarray:
    """The numbers of episodes at which curves are drawn."""
    return np.unique(np.geomspace(64, budget, 60).astype(int))


def learn(name: str, size: Size) -> Found:
    """One method from all seeds, in one program."""
    method, budget, problem = METHODS[name], size.budgets[-1], process()
    rounds = -(-budget // (method.population * method.cost))
    strategy = method.strategy(rounds)
    estimator = None if method.estimator is None else method.estimator(problem)

    @jax.jit
    @jax.vmap
    def run(key):
        history = mh.search(
            key, problem, SPACE, strategy, rounds=rounds, steps=STEPS, estimator=estimator
        ).history
        # What an estimator says of its point may be the loss of others around it.
        judge = mh.inner.outer_loss(problem, STEPS)
        units = history.unit.reshape(-1, STEPS)
        return jax.lax.map(
            lambda unit: judge(key, mh.space.decode(SPACE, unit), None)[0], units, batch_size=256
        )

    losses = np.asarray(run(jax.random.split(jax.random.key(1), size.seeds)), float)
    regret = np.minimum.accumulate(losses, axis=1) + EXACT.optimal()

    def after(episodes: np.ndarray) -> np.ndarray:
        evaluations = np.maximum(episodes // method.cost, 1)
        return regret[:, evaluations.clip(max=losses.shape[1]) - 1]

    return Found(after(np.array(size.budgets)), after(points(budget)))


def tabulate(found: dict[str, Found], size: Size):
    rows = []
    for name, each in found.items():
        row = {"method": name, "episodes an evaluation": METHODS[name].cost}
        for i, budget in enumerate(size.budgets):
            row[f"regret @{budget:,}"] = interval(each.regrets[:, i])
        row["error ratio"] = interval(np.exp(each.regrets[:, -1] - EXACT.optimal()))
        rows.append(row)
    last = f"regret @{size.budgets[-1]:,}"
    rows.sort(key=lambda row: float(row[last].mean))
    for name, value in (("optimum", EXACT.optimal()), ("best static", EXACT.static())):
        regret = EXACT.optimal() - value
        rows.append({"method": name, last: regret, "error ratio": float(np.exp(-value))})
    return rows


def study(size: Size, work: Work) -> Findings:
    """Every method from all seeds."""
    found = work.each(size.methods, lambda name: learn(name, size), Found)
    curves = {name: np.round(each.curve.mean(axis=0), 5).tolist() for name, each in found.items()}
    return Findings(
        tabulate(found, size),
        formats={"error ratio": ".4f"},
        settings={
            "condition": CONDITION,
            "steps": STEPS,
            "optimum": EXACT.optimal(),
            "seconds": work.seconds,
        },
        notes={"episodes": points(size.budgets[-1]).tolist(), "mean_regret": curves},
    )


def plot(results, path) -> None:
    """The regret of each method over the episodes that it has played."""
    at, curves = np.array(results["episodes"]), results["mean_regret"]
    budget = results["settings"]["budgets"][-1]
    rows = [row for row in results["rows"] if row["method"] in METHODS]
    ends = column(rows, f"regret @{budget:,}", "method")
    best = min(curves, key=lambda name: curves[name][-1])
    title = (
        f"On one process of 20 rates {best} comes within {ends[best].mean:.2g} of the best return "
        f"({results['settings']['optimum']:.2f}) in {budget:,} episodes"
    )
    colors = dict(zip(METHODS, ("0.5", *COLORS), strict=False))
    with panels(path, size=(8, 4.2), title=title) as axes:
        for name, regrets in curves.items():
            axes.plot(at, regrets, color=colors[name])
        scales(axes, at, True, True)
        axes.set(xlabel="episodes", ylabel="regret (mean over seeds)")
        axes.set_xlim(at[0], at[-1])
        label_ends(axes, {name: regrets[-1] for name, regrets in curves.items()}, colors)


PICTURES = {"one_process.png": plot}


if __name__ == "__main__":
    command("experiments.one_process", __doc__, study, Size(), QUICK, PICTURES)
