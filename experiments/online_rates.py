"""SGD whose learning rate is learned while it trains, from every first rate, on digits.

L2-regularised softmax regression (penalty 0.01) on 800 standardised images of scikit-learn's
digits, 400 for validation, trained by 500 steps on all images and by 1,000 steps on minibatches of
100 drawn with replacement (means over 5 keys).  Online hypergradient descent (Baydin et al. 2018)
starts at the rates 1e-4 ... 1, always with the same hyper rate: 0.03 multiplicative, 0.1 additive.
Beside it stand plain SGD from the same rates and the best of a grid of 41 fixed rates from 1e-4 to
10.  What is compared is what is minimised, the regularised loss on all training images, relative
to the grid's best: after the last step, and at the worst of the last 50 steps.  The validation
loss and the last rate are reported as well.  Less than a minute on 2 cores.

On full batches the multiplicative rule raises the rate to the edge of stability, falls back when
the loss jumps, and begins again: its last step is within 2 %, some of the steps before are not.
With less regularisation (--l2 0.001) the problem is worse conditioned and neither rule stays within
2 % from every start: additive 3 to 8 % above the grid's best, multiplicative 4 to 39 % on
minibatches, where the rate falls too early, and up to several times the best on full batches.

    python -m experiments.online_rates [--quick] [--resume] [--l2 0.01]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo.problems.digits import CLASSES, PIXELS, load_pools
from metahpo.report.plots import COLORS, label_ends
from metahpo.study import Findings, Work, command, panels

STARTS = np.logspace(-4.0, 0.0, 5)
GRID = np.logspace(-4.0, 1.0, 41)
HYPER_RATES = {"multiplicative": 0.03, "additive": 0.1}
BATCH, LAST = 100, 50
STEPS = {"full": 500, f"{BATCH}": 1000}


class Size(NamedTuple):
    """How much is computed: the regularisation, and the keys of minibatches."""

    l2: float = 0.01
    keys: int = 5


QUICK = Size(keys=1)


def regression(l2: float) -> mh.TaskFamily:
    """Softmax regression; the task is a pair of (x, y) for training and validation."""

    def loss(params, task, split):
        x, y = task[split]
        scores = x @ params["w"] + params["b"]
        data = optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()
        return data + (l2 * jnp.sum(params["w"] ** 2) / 2 if split == "support" else 0.0)

    pools = load_pools()
    return mh.TaskFamily(
        sample=lambda key: {"support": pools.train, "query": pools.validation},
        init=lambda key, task: {"w": jnp.zeros((PIXELS, CLASSES)), "b": jnp.zeros(CLASSES)},
        loss=loss,
    )


def minibatch(key, task):
    x, y = task["support"]
    rows = jax.random.randint(key, (BATCH,), 0, len(y))
    return task | {"support": (x[rows], y[rows])}


def optimizer(rule: str, rate):
    """SGD with a fixed rate, or with one that is learned."""
    if rule == "fixed":
        return optax.sgd(rate)
    learned = mh.learned_optimizers.hypergradient_descent
    return learned(optax.sgd(1.0), rate, HYPER_RATES[rule], rule)


def trainer(rule: str, batch: str, steps: int, l2: float):
    """``(key, rate) -> (objective f[steps], rate f[steps], validation loss f[])``."""
    family = regression(l2)
    some = None if batch == "full" else minibatch
    problem = mh.problems.training(family, lambda h: optimizer(rule, h["rate"]), minibatch=some)
    task = jax.tree.map(jnp.asarray, family.sample(jax.random.key(0)))

    def record(state):
        rates = () if rule == "fixed" else state.opt_state.rates["all"]
        return family.loss(state.params, task, "support"), rates

    train = mh.inner.unroll(problem, steps, record=record)

    def run(key, rate):
        state, (objective, rates) = train(key, {"rate": rate}, task)
        rates = jnp.full(steps, rate) if rule == "fixed" else rates
        return objective, rates, family.loss(state.params, task, "query")

    return run


def compare(batch: str, steps: int, keys: int, l2: float, starts=STARTS, grid=GRID):
    """Rows of the table, and the means over the keys of the runs for the picture."""

    def over(rule, rates):
        run = trainer(rule, batch, steps, l2)
        both = jax.jit(jax.vmap(jax.vmap(run, in_axes=(0, None)), in_axes=(None, 0)))
        result = both(jax.random.split(jax.random.key(1), keys), jnp.asarray(rates, jnp.float32))
        return jax.tree.map(lambda x: np.asarray(x, np.float64).mean(axis=1), result)

    objective, _, validation = over("fixed", grid)
    best = np.nanargmin(objective[:, -1])
    rows = [table_row(batch, "best of the grid", grid[best], objective, validation, grid, best)]
    arrays = {"grid": objective[:, -1], "best": objective[best]}
    reference = objective[best, -1]
    for rule in ("fixed", *HYPER_RATES):
        objective, rates, validation = over(rule, starts)
        arrays |= {f"{rule}_objective": objective, f"{rule}_rate": rates}
        for i, start in enumerate(starts):
            rows.append(table_row(batch, rule, start, objective, validation, rates[:, -1], i))
    for row in rows:
        row["above the best, %"] = 100 * (row["objective"] / reference - 1)
        row[f"worst of {LAST}, %"] = 100 * (row.pop("worst") / reference - 1)
    return rows, arrays


def table_row(batch, method, start, objective, validation, rates, i):
    return {
        "batch": batch,
        "SGD": method,
        "first rate": float(start),
        "last rate": float(rates[i]),
        "validation loss": float(validation[i]),
        "objective": float(objective[i, -1]),
        "worst": float(objective[i, -LAST:].max()),
    }


def study(size: Size, work: Work) -> Findings:
    rows, arrays = [], {}
    for batch, steps in STEPS.items():
        found, arrays[batch] = compare(batch, steps, 1 if batch == "full" else size.keys, size.l2)
        rows += found
    percent = dict.fromkeys(("above the best, %", f"worst of {LAST}, %"), ".2f")
    losses = dict.fromkeys(("objective", "validation loss"), ".4f")
    rates = dict.fromkeys(("first rate", "last rate"), ".3g")
    settings = {"steps": STEPS, "hyper_rates": HYPER_RATES}
    return Findings(
        rows,
        formats=percent | losses | rates,
        settings=settings | {"seconds": work.seconds},
        arrays={f"{name}_{batch}": x for batch, runs in arrays.items() for name, x in runs.items()},
    )


def plot(results, path) -> None:
    """How far each rule ends above the best fixed rate, from every first rate."""
    above, worst = "above the best, %", f"worst of {LAST}, %"
    rows = [row for row in results["rows"] if row["SGD"] != "best of the grid"]
    most = {
        rule: max(row[above] for row in rows if (row["SGD"] != "fixed") == (rule == "learned"))
        for rule in ("learned", "fixed")
    }
    title = (
        f"Whatever the first rate, a learned one ends at most {most['learned']:.1f} % above the "
        f"best fixed rate, a fixed one up to {most['fixed']:.0f} %"
    )
    colors = dict(zip(("fixed", *HYPER_RATES), ("0.35", *COLORS), strict=False))
    with panels(path, 1, len(STEPS), size=(8, 3.8), title=title, sharey=True) as axes:
        for axis, batch in zip(axes, STEPS, strict=True):
            ends = {}
            for i, (rule, color) in enumerate(colors.items()):
                own = [row for row in rows if (row["batch"], row["SGD"]) == (batch, rule)]
                x = np.array([row["first rate"] for row in own]) * 1.15 ** (i - 1)
                low, high = (np.array([row[name] for row in own]) for name in (above, worst))
                axis.plot(x, low, "o-", color=color, markersize=4)
                axis.vlines(x, low, high, color=color, linewidth=1)
                ends[rule] = low[-1]
            axis.axhline(0, color="0.6", linestyle="--", linewidth=0.8, zorder=0)
            axis.set_xscale("log")
            axis.set_yscale("symlog", linthresh=1)
            axis.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
            axis.set(
                xlabel="first rate",
                title="all images" if batch == "full" else f"minibatches of {batch}",
            )
            if axis is axes[0]:
                axis.set_ylabel(
                    "objective above the best fixed rate's, %\n"
                    f"(lines: to the worst of the last {LAST} steps)"
                )
            label_ends(axis, ends, colors)


PICTURES = {"online_rates.png": plot}


if __name__ == "__main__":
    command("experiments.online_rates", __doc__, study, Size(), QUICK, PICTURES)
