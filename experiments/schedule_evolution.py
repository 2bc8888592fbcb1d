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

    python -m experiments.schedule_evolution [--quick] [--resume]
"""

import math
import time
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from metahpo import strategies
from metahpo.report import Interval, interval
from metahpo.report.plots import COLORS
from metahpo.study import Findings, Work, column, command, draw_intervals, panels

KAPPA, STEPS = 100.0, 20
SPACE = {"rates": mh.Float(1 / KAPPA, 1.0, log=True, shape=(STEPS,))}
OPTIMUM = mh.problems.chebyshev_ratio(KAPPA, STEPS)


METHODS = {  # strategies and their populations
    "CMA-ES": (strategies.cma_es, 12),
    "xNES": (strategies.xnes, 12),
    "SNES": (strategies.snes, 12),
    "OpenES": (strategies.open_es, 32),
    "DE": (strategies.differential_evolution, 40),
    "JADE": (strategies.jade, 40),
    "SHADE": (strategies.shade, 40),
    "L-SHADE": (strategies.l_shade, 100),
    "GA": (strategies.genetic, 40),
    "PSO": (strategies.pso, 40),
    "random search": (strategies.random, 64),
}


class Size(NamedTuple):
    """How much is computed; a budget counts trainings of ``STEPS`` steps."""

    budgets: tuple[int, ...] = (1_000, 5_000, 20_000)
    seeds: int = 10
    methods: tuple[Literal[*METHODS], ...] = tuple(METHODS)


QUICK = Size(budgets=(200, 1_000), seeds=3, methods=("CMA-ES", "DE", "random search"))


class Found(NamedTuple):
    """What a method did."""

    ratios: np.ndarray  # f[seeds, budgets], the best ratio within each budget
    rates: np.ndarray  # f[seeds, STEPS], the best schedule, sorted
    evaluations: np.ndarray  # f[seeds], trainings up to the last budget
    curve: np.ndarray  # f[seeds, points], the best ratio after numbers of trainings
    seconds: float  # with compilation


def rounds_for(name: str, budget: int) -> int:
    """Rounds that spend the budget; a population that shrinks from P to 4 needs more of them."""
    population = METHODS[name][1]
    if name == "L-SHADE":
        return math.ceil(budget / (population - 4) * math.log(population / 4)) + 20
    return -(-budget // population)


def points(budget: int) -> np.ndarray:
    """The numbers of trainings at which curves are drawn."""
    return np.unique(np.geomspace(20, budget, 60).astype(int))


def evolve(name: str, size: Size) -> Found:
    """Runs one strategy from all seeds, in one program."""
    begin = time.perf_counter()
    budget = size.budgets[-1]
    family = mh.problems.quadratics(kappa=KAPPA, log=True)
    problem = mh.problems.schedule_problem(family, STEPS)
    options = {"evaluations": budget} if name == "L-SHADE" else {}
    strategy = METHODS[name][0](SPACE, METHODS[name][1], **options)

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
    loss, taken, rates = map(np.asarray, run(jax.random.split(jax.random.key(1), size.seeds)))
    ratio = np.exp(mh.report.best_so_far(loss.astype(float), taken > 0))
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
        row = {"strategy": name, "population": METHODS[name][1]}
        for i, budget in enumerate(size.budgets):
            row[f"ratio @{budget:,}"] = interval(each.ratios[:, i])
        row["times the optimum"] = interval(each.ratios[:, -1] / OPTIMUM)
        row["from Chebyshev"] = interval(distance(each.rates))
        row["seconds"] = each.seconds
        rows.append(row)
    last = f"ratio @{size.budgets[-1]:,}"
    rows.sort(key=lambda row: float(row[last].mean))
    static = mh.problems.static_ratio(KAPPA, STEPS)
    constant = float(distance(np.full(STEPS, 2 / (1 + KAPPA))))
    known = {"Chebyshev's rates": (OPTIMUM, 0.0), "best constant rate": (static, constant)}
    for name, (ratio, apart) in known.items():
        row = {"strategy": name, last: ratio, "times the optimum": ratio / OPTIMUM}
        rows.append(row | {"from Chebyshev": apart})
    return rows


def study(size: Size, work: Work) -> Findings:
    """Every strategy from all seeds."""
    found = work.each(size.methods, lambda name: evolve(name, size), Found)
    return Findings(
        tabulate(found, size),
        formats={"seconds": ".1f"},
        settings={"kappa": KAPPA, "steps": STEPS, "optimum": OPTIMUM},
        arrays={name: each._asdict() for name, each in found.items()},
    )


def plot(results, path) -> None:
    """How near each strategy comes to the best ratio within every budget."""
    settings = results["settings"]
    budgets, optimum = settings["budgets"], settings["optimum"]
    constant = mh.problems.static_ratio(KAPPA, STEPS) / optimum
    rows = [row for row in results["rows"] if row["strategy"] in METHODS]
    ends = {row["strategy"]: row["times the optimum"]["mean"] for row in rows}
    # The others would stretch the axis.
    drawn = [name for name in ends if ends[name] < constant] or list(ends)[:1]
    beyond = {name: ends[name] for name in ends if name not in drawn}
    beyond["best constant rate"] = constant
    title = (
        f"{rows[0]['strategy']} comes within {100 * (ends[rows[0]['strategy']] - 1):.1f} % of the "
        f"best schedule that there is, in {budgets[-1]:,} trainings"
    )
    times = {budget: column(rows, f"ratio @{budget:,}", "strategy") for budget in budgets}
    label_at = max(range(len(drawn)), key=lambda line: _gap(times, drawn[line]))
    with panels(path, size=(8, 4.6), title=title) as axes:
        for (budget, cells), color in zip(times.items(), ("0.6", *COLORS[5::-5]), strict=False):
            shown = {
                name: Interval(cells[name].mean / optimum, cells[name].half_width / optimum, 0)
                for name in drawn
            }
            draw_intervals(axes, shown, color=color)
            axes.annotate(
                f"{budget:,} trainings" if budget == budgets[0] else f"{budget:,}",
                (shown[drawn[label_at]].mean, label_at),
                (0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=color,
            )
        axes.axvline(1, color="0.6", linestyle="--", linewidth=0.8, zorder=0)
        axes.set(xscale="log")
        axes.set_xlim(0.95, min(axes.get_xlim()[1], constant))
        ticks = [x for x in (1, 1.5, 2, 3, 4, 5, 10) if x < axes.get_xlim()[1]]
        axes.set_xticks(ticks, ticks)
        axes.minorticks_off()
        elsewhere = ", ".join(f"{name} {end:,.0f}" for name, end in beyond.items())
        axes.set_xlabel(
            "error ratio, times the optimum, 95 % intervals over seeds\n"
            f"(beyond the axis: {elsewhere} times)"
        )


def _gap(times, name: str) -> float:
    """The least factor between a strategy's means at two budgets."""
    logs = np.sort([np.log(cells[name].mean) for cells in times.values()])
    return float(np.diff(logs).min(initial=np.inf))


PICTURES = {"schedule_evolution.png": plot}


if __name__ == "__main__":
    command("experiments.schedule_evolution", __doc__, study, Size(), QUICK, PICTURES)
