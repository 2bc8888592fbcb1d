"""Evolution of a learning-rate schedule, beside the best one that there is.

Gradient descent takes 20 steps on quadratics whose spectrum fills [1, 100]; a schedule is 20 rates
between 1/100 and 1, searched on a logarithmic scale.  Its loss is the logarithm of the worst-case
error ratio, whose minimum is known: Chebyshev's rates reach 0.0361, the best constant rate 0.670.
The landscape has 20! equal optima, one for every order of the rates; at each of them 21 maxima of
the residual polynomial are equal, so the loss has a kink there and no gradient leads to the end.

Every strategy of the library that proposes whole schedules gets 20,000 trainings (of 20 steps each)
and works in the unit cube with its defaults.  Reported is the best ratio after 1,000, 5,000 and
20,000 trainings, the mean over 10 seeds with 95 % intervals, and how far the sorted rates are from
Chebyshev's (root mean square of the difference of logarithms).  About two minutes on 2 cores.

    python -m experiments.schedule_evolution [--out results/schedule_evolution] [--quick]
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from metahpo import strategies
from metahpo.run.progress import reporter

KAPPA, STEPS = 100.0, 20
SPACE = {"rates": mh.Float(1 / KAPPA, 1.0, log=True, shape=(STEPS,))}
OPTIMUM = mh.problems.chebyshev_ratio(KAPPA, STEPS)


class Size(NamedTuple):
    """How much is computed; a budget counts trainings of ``STEPS`` steps."""

    budgets: tuple[int, ...] = (1_000, 5_000, 20_000)
    seeds: int = 10
    methods: tuple[str, ...] = (
        "CMA-ES",
        "xNES",
        "SNES",
        "OpenES",
        "DE",
        "JADE",
        "SHADE",
        "L-SHADE",
        "GA",
        "PSO",
        "random search",
    )


FULL = Size()
QUICK = Size(budgets=(200, 1_000), seeds=3, methods=("CMA-ES", "DE", "random search"))


class Method(NamedTuple):
    """A strategy for a budget of evaluations, and its population."""

    make: Callable[[int], mh.Strategy]
    population: int


def method(make: Callable[..., mh.Strategy], population: int) -> Method:
    return Method(lambda budget: make(SPACE, population), population)


METHODS = {
    "CMA-ES": method(strategies.cma_es, 12),
    "xNES": method(strategies.xnes, 12),
    "SNES": method(strategies.snes, 12),
    "OpenES": method(strategies.open_es, 32),
    "DE": method(strategies.differential_evolution, 40),
    "JADE": method(strategies.jade, 40),
    "SHADE": method(strategies.shade, 40),
    "L-SHADE": Method(lambda budget: strategies.l_shade(SPACE, 100, evaluations=budget), 100),
    "GA": method(strategies.genetic, 40),
    "PSO": method(strategies.pso, 40),
    "random search": method(strategies.random, 64),
}


class Found(NamedTuple):
    """What a method did.

    Attributes:
        ratios: ``f[seeds, budgets]``, the best ratio within each budget.
        rates: ``f[seeds, STEPS]``, the best schedule, sorted.
        evaluations: ``f[seeds]``, trainings up to the last budget.
        curve: ``f[seeds, points]``, the best ratio after ``points`` numbers of trainings.
        seconds: with compilation.
    """

    ratios: np.ndarray
    rates: np.ndarray
    evaluations: np.ndarray
    curve: np.ndarray
    seconds: float


def rounds_for(name: str, budget: int) -> int:
    """Rounds that spend the budget; a population that shrinks from P to 4 needs more of them."""
    population = METHODS[name].population
    if name == "L-SHADE":
        return math.ceil(budget / (population - 4) * math.log(population / 4)) + 20
    return -(-budget // population)


def points(budget: int) -> np.ndarray:
    """The numbers of trainings at which curves are drawn."""
    return np.unique(np.geomspace(20, budget, 60).astype(int))


def loss_by_training(loss: np.ndarray, budget: np.ndarray, count: int) -> np.ndarray:
    """``f[count]``: the best loss after each training, idle slots left out.

    Args:
        loss: ``f[rounds, P]``.
        budget: ``i32[rounds, P]``, 0 in idle slots.
        count: trainings to look at.
    """
    made = loss.reshape(-1)[budget.reshape(-1) > 0][:count]
    made = np.append(made, np.full(count - len(made), np.inf))
    return mh.report.best_so_far(made)


def evolve(name: str, size: Size, seed: int) -> Found:
    """Runs one strategy from all seeds, in one program."""
    begin = time.perf_counter()
    budget = size.budgets[-1]
    family = mh.problems.quadratics(kappa=KAPPA, log=True)
    problem = mh.problems.schedule_problem(family, STEPS)
    strategy = METHODS[name].make(budget)

    @jax.jit
    @jax.vmap
    def run(key):
        history = mh.search(
            key, problem, SPACE, strategy, rounds=rounds_for(name, budget), steps=STEPS
        ).history
        # Only what lies within the budget may be chosen.
        spent = jnp.cumsum((history.budget > 0).reshape(-1)).reshape(history.loss.shape)
        loss = jnp.where(spent <= budget, history.loss, jnp.inf)
        best = history.unit.reshape(-1, STEPS)[jnp.argmin(loss)]
        rates = mh.space.decode(SPACE, best)["rates"]
        return history.loss, history.budget, jnp.sort(rates)

    # All strategies start from the same keys, but that does not pair them: they draw differently.
    loss, taken, rates = map(np.asarray, run(jax.random.split(jax.random.key(seed), size.seeds)))
    best = np.stack([loss_by_training(*each, budget) for each in zip(loss, taken, strict=True)])
    ratio = np.exp(best)
    return Found(
        ratio[:, np.array(size.budgets) - 1],
        rates,
        (taken > 0).sum(axis=(1, 2)).clip(max=budget),
        ratio[:, points(budget) - 1],
        time.perf_counter() - begin,
    )


def distance(rates: np.ndarray) -> np.ndarray:
    """``f[...]``: the root mean square of the log ratios to Chebyshev's sorted rates."""
    optimal = np.sort(mh.problems.chebyshev_rates(1.0, KAPPA, STEPS))
    return np.sqrt(np.mean(np.log(rates / optimal) ** 2, axis=-1))


def tabulate(found: dict[str, Found], size: Size):
    rows = []
    for name, each in found.items():
        row = {"strategy": name, "population": METHODS[name].population}
        row |= {
            f"ratio @{budget:,}": mh.report.interval(each.ratios[:, i])
            for i, budget in enumerate(size.budgets)
        }
        row["times the optimum"] = mh.report.interval(each.ratios[:, -1] / OPTIMUM)
        row["from Chebyshev"] = mh.report.interval(distance(each.rates))
        row["seconds"] = each.seconds
        rows.append(row)
    last = f"ratio @{size.budgets[-1]:,}"
    rows.sort(key=lambda row: float(row[last].mean))
    static = mh.problems.static_ratio(KAPPA, STEPS)
    constant = float(distance(np.full(STEPS, 2 / (1 + KAPPA))))
    known = {
        "Chebyshev's rates": (OPTIMUM, 0.0),
        "best constant rate": (static, constant),
    }
    for name, (ratio, apart) in known.items():
        rows.append(
            {
                "strategy": name,
                last: ratio,
                "times the optimum": ratio / OPTIMUM,
                "from Chebyshev": apart,
            }
        )
    return rows


def study(size: Size = FULL, seed: int = 1, progress: bool = False):
    """Everything that the table and the picture show."""
    found = {}
    with reporter(progress, "schedule evolution", len(size.methods)) as show:
        for name in size.methods:
            found[name] = evolve(name, size, seed)
            lowest = min(each.ratios.min() for each in found.values())
            show(len(found), float(lowest), len(found) == len(size.methods))
    return tabulate(found, size), found


def plot(found: dict[str, Found], size: Size, path: Path) -> None:
    """The ratios over the budget, and the sorted rates beside Chebyshev's; needs matplotlib."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.8), layout="constrained")
    order = sorted(found, key=lambda name: float(np.mean(found[name].ratios[:, -1])))
    colors = dict(zip(order, plt.get_cmap("tab20").colors[::2] + ((0, 0, 0),) * 9, strict=False))
    x, static = points(size.budgets[-1]), mh.problems.static_ratio(KAPPA, STEPS)
    for name in order:
        curve = np.median(found[name].curve, axis=0)
        low, high = np.quantile(found[name].curve, [0.25, 0.75], axis=0)
        left.plot(x, curve, color=colors[name], label=name)
        left.fill_between(x, low, high, color=colors[name], alpha=0.15, linewidth=0)
    left.axhline(OPTIMUM, color="k", linestyle="--", linewidth=1)
    left.axhline(static, color="k", linestyle=":", linewidth=1)
    for label, level in (("Chebyshev", OPTIMUM), ("best constant rate", static)):
        left.annotate(label, (x[0], level), (0, 3), textcoords="offset points", fontsize=9)
    left.set(xscale="log", yscale="log", ylim=(0.03, 100))
    left.set(xlabel="trainings of 20 steps", ylabel="worst-case error ratio, median and quartiles")
    left.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    rank = np.arange(1, STEPS + 1)
    for name in order[:5] + order[5:][-1:]:
        best = found[name].rates[np.argmin(found[name].ratios[:, -1])]
        right.plot(rank, best, ".-", color=colors[name], label=name, linewidth=1, markersize=4)
    optimal = np.sort(mh.problems.chebyshev_rates(1.0, KAPPA, STEPS))
    right.plot(rank, optimal, "o", color="k", fillstyle="none", markersize=8, label="Chebyshev")
    right.axhline(2 / (1 + KAPPA), color="k", linestyle=":", linewidth=1)
    right.set(xlabel="rank of the rate", ylabel="rate, best seed", yscale="log", xticks=rank[::3])
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/schedule_evolution"))
    parser.add_argument("--quick", action="store_true", help="1,000 trainings, 3 seeds, 3 methods")
    arguments = parser.parse_args()
    size, out = QUICK if arguments.quick else FULL, arguments.out
    rows, found = study(size, progress=True)
    mh.report.print_table(rows, formats={"seconds": ".1f"})
    settings = {**size._asdict(), "kappa": KAPPA, "steps": STEPS, "optimum": OPTIMUM}
    mh.report.save_json(out / "results.json", {"settings": settings, "rows": rows})
    arrays = {name: each._asdict() for name, each in found.items()}
    mh.report.save_npz(out / "arrays.npz", arrays)
    try:
        plot(found, size, out / "schedule_evolution.png")
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'metahpo[plot]')")


if __name__ == "__main__":
    main()
