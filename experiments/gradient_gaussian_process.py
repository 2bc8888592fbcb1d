"""Bayesian optimisation that learns from hypergradients: evaluations saved, gradients charged.

``gaussian_process`` with ``gradients=True`` beside the same without, and beside hypergradient
descent from one start, on three problems:

- Rosenbrock's function in five dimensions, on [-1, 2]^5; the lowest loss is 0;
- a ridge regression with a penalty for each of eight groups of features, between exp(-4) and
  exp(8).  The features are orthonormal in training and in validation, so a penalty shrinks its
  group's coefficients by one factor and the best factor has a closed form;
- softmax regression on scikit-learn's digits, 449 to train on and 449 to judge by: the learning
  rate, the momentum and the l2 penalty of 40 updates.  The lowest loss is what hypergradient
  descent from 16 starts finds in 150 rounds, or any run of a method if that is lower.

An evaluation with its hypergradient is charged as three.  Reported are the regret, the lowest loss
so far above the lowest that there is, in the median of 20 seeds; and how many charged evaluations a
method needs to come as low as the process without gradients comes in the median with its whole
budget, as a mean with a 95 % interval: a run that does not come so low counts with the budget, as
half of those without gradients do, so that their figure is too low.  The seeds differ in the first
points and in the choices of the method.  About six minutes of one core.

    python -m experiments.gradient_gaussian_process [--quick] [--resume]
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo import strategies
from metahpo.problems import Examples
from metahpo.problems.digits import load_images
from metahpo.report import interval
from metahpo.report.plots import COLORS, label_ends, scales
from metahpo.study import GRADIENT_COST, Findings, Work, command, panels

PLAIN, STEEP, DESCENT = "GP", "GP with gradients", "hypergradient"
COLOR = dict(zip((PLAIN, STEEP, DESCENT), COLORS, strict=False))
LABEL = {PLAIN: "GP", STEEP: "GP, grad.", DESCENT: "descent"}
UPDATES = 40  # of a softmax regression
GROUPS, FEATURES = 8, 4  # and features of each
STARTS, ROUNDS = 16, 150  # of the search for the lowest loss of a softmax regression


class Tuned(NamedTuple):
    """What is tuned.

    Attributes:
        problem: the training process.
        space: its hyperparameters.
        steps: updates.
        lowest: ``() -> float``, the lowest loss that there is.
    """

    problem: mh.Problem
    space: mh.space.Space
    steps: int
    lowest: Callable[[], float]


def rosenbrock() -> Tuned:
    """The valley in five dimensions."""

    def loss(hparams):
        x = hparams["x"]
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    space = {"x": mh.Float(-1.0, 2.0, shape=(5,))}
    return Tuned(mh.problems.function(loss), space, 1, lambda: 0.0)


def coefficients() -> tuple[np.ndarray, np.ndarray]:
    """``f[groups, features]``: those of the two halves, the same but for noise."""
    rng = np.random.default_rng(0)
    scale = np.geomspace(0.1, 3.0, GROUPS)[:, None]
    true = scale * rng.normal(size=(GROUPS, FEATURES))
    return tuple(true + rng.normal(size=true.shape) for _ in range(2))


def ridge() -> Tuned:
    """The squared distance of shrunk coefficients from those of the other half."""
    train, valid = coefficients()

    def loss(hparams):
        shrunk = train / (1 + jnp.exp(hparams["log_l2"]))[:, None]
        return jnp.mean((shrunk - valid) ** 2)

    def lowest() -> float:
        factors = (train * valid).sum(1) / (train**2).sum(1)
        factors = np.clip(factors, 1 / (1 + np.exp(8.0)), 1 / (1 + np.exp(-4.0)))
        return float(np.mean((factors[:, None] * train - valid) ** 2))

    space = {"log_l2": mh.Float(-4.0, 8.0, shape=(GROUPS,))}
    return Tuned(mh.problems.function(loss), space, 1, lowest)


def digits() -> Tuned:
    """Softmax regression, trained by gradient descent with momentum on all images at once."""
    x, y = load_images()
    order = np.random.default_rng(0).permutation(len(y))
    parts = order[:449], order[449:898]
    support, query = (Examples(jnp.asarray(x[rows]), jnp.asarray(y[rows])) for rows in parts)

    def loss(params, task, split):
        examples = query if split == "query" else support
        scores = examples.x @ params["w"] + params["b"]
        return optax.softmax_cross_entropy_with_integer_labels(scores, examples.y).mean()

    family = mh.TaskFamily(
        lambda key: (), lambda key, task: {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}, loss
    )

    def optimizer(hparams):
        decay = optax.add_decayed_weights(hparams["l2"])
        return optax.chain(decay, optax.sgd(hparams["lr"], hparams["momentum"]))

    problem = mh.problems.training(family, optimizer)
    space = {
        "lr": mh.Float(1e-3, 3.0, log=True),
        "momentum": mh.Float(0.0, 0.99),
        "l2": mh.Float(1e-6, 1.0, log=True),
    }

    def lowest() -> float:
        descent = strategies.hypergradient(space, STARTS)
        found = jax.jit(
            lambda key: mh.search(key, problem, space, descent, rounds=ROUNDS, steps=UPDATES)
        )(jax.random.key(0))
        return float(found.best_loss)

    return Tuned(problem, space, UPDATES, lowest)


PROBLEMS = {"Rosenbrock": rosenbrock, "ridge": ridge, "digits": digits}


class Size(NamedTuple):
    """How much is computed."""

    budget: int = 36  # charged evaluations
    budgets: tuple[int, ...] = (12, 24, 36)
    seeds: int = 20
    problems: tuple[Literal[*PROBLEMS], ...] = tuple(PROBLEMS)
    seed: int = 1


QUICK = Size(budget=24, budgets=(12, 24), seeds=2, problems=("ridge",))


class Found(NamedTuple):
    """What a method did on a problem."""

    regret: np.ndarray  # f[seeds, evaluations], of the best so far
    cost: float  # of an evaluation


def method(name: str, space: mh.space.Space, rounds: int) -> mh.Strategy:
    """One point a round."""
    if name == DESCENT:
        return strategies.hypergradient(space, 1)
    return strategies.gaussian_process(space, capacity=rounds, gradients=name == STEEP)


def search(name: str, problem: str, size: Size) -> Found:
    """Runs a method from all seeds."""
    tuned = PROBLEMS[problem]()
    cost = 1.0 if name == PLAIN else GRADIENT_COST
    rounds = int(size.budget / cost)
    strategy = method(name, tuned.space, rounds)

    def run(key):
        return mh.search(
            key, tuned.problem, tuned.space, strategy, rounds=rounds, steps=tuned.steps
        ).history.loss[:, 0]

    keys = jax.random.split(jax.random.key(size.seed), size.seeds)
    loss = np.asarray(jax.jit(jax.vmap(run))(keys), float)
    return Found(np.minimum.accumulate(loss, axis=1), np.array(cost))


def regrets(records: dict, size: Size) -> dict[tuple[str, str], Found]:
    """Above the lowest loss that there is, or that was found."""
    found = {}
    for problem in size.problems:
        own = {name: records[name, problem] for name in COLOR}
        lowest = min(PROBLEMS[problem]().lowest(), *(one.regret.min() for one in own.values()))
        for name, one in own.items():
            found[name, problem] = Found(one.regret - lowest, float(one.cost))
    return found


def at(found: Found, budget: float) -> np.ndarray:
    """``f[seeds]``: regrets when so many evaluations are paid."""
    return found.regret[:, int(budget / found.cost + 1e-6) - 1]


def needed(found: Found, target: float, budget: int) -> np.ndarray:
    """``f[seeds]``: charged evaluations until the regret is no more than a target."""
    low = found.regret <= target
    first = (low.argmax(axis=1) + 1) * found.cost
    return np.where(low.any(axis=1), first, float(budget))


def tabulate(found: dict[tuple[str, str], Found], size: Size) -> list[dict]:
    """A row a problem and method."""
    rows = []
    for problem in size.problems:
        target = float(np.median(at(found[PLAIN, problem], size.budget)))
        for name in COLOR:
            one = found[name, problem]
            row = {"problem": problem, "method": name}
            row |= {f"regret @{b}": float(np.median(at(one, b))) for b in size.budgets}
            row |= {"evaluations to target": interval(needed(one, target, size.budget))}
            row |= {"reached": float((one.regret <= target).any(axis=1).mean())}
            rows.append(row)
    return rows


def curves(found: dict[tuple[str, str], Found], size: Size) -> dict:
    """Medians and quartiles by problem and method."""
    drawn: dict = {}
    for (name, problem), one in found.items():
        paid = one.cost * np.arange(1, one.regret.shape[1] + 1)
        low, middle, high = np.quantile(one.regret, (0.25, 0.5, 0.75), axis=0)
        values = {"paid": paid, "low": low, "median": middle, "high": high}
        drawn.setdefault(problem, {})[name] = {
            label: [float(f"{value:.3g}") for value in row] for label, row in values.items()
        }
    return drawn


def study(size: Size, work: Work) -> Findings:
    """Every method on every problem."""
    for budget in size.budgets:
        if not GRADIENT_COST <= budget <= size.budget:
            raise ValueError(f"budgets must lie within 3 to {size.budget}, got {budget}")
    jobs = [(name, problem) for problem in size.problems for name in COLOR]
    records = work.each(jobs, lambda job: search(*job, size), Found)
    found = regrets(records, size)
    formats = {f"regret @{budget}": ".2g" for budget in size.budgets}
    formats |= {"evaluations to target": ".1f", "reached": ".0%"}
    return Findings(tabulate(found, size), formats=formats, notes={"curves": curves(found, size)})


def plot(results, path) -> None:
    """Median regret against charged evaluations, one panel a problem."""
    drawn = results["curves"]
    needs = {(row["problem"], row["method"]): row for row in results["rows"]}
    ratios = [
        f"{mean(needs[problem, STEEP]) / mean(needs[problem, PLAIN]):.2f}" for problem in drawn
    ]
    title = f"Charged evaluations with gradients for one without: {', '.join(ratios)}"
    shape = {"squeeze": False, "sharex": True, "legends": False, "title": title}
    with panels(path, 1, len(drawn), size=(2.65 * len(drawn), 3.0), **shape) as grid:
        for axes, (problem, own) in zip(grid.flat, drawn.items(), strict=True):
            for name, curve in own.items():
                paid, low, middle, high = (np.array(values) for values in curve.values())
                axes.plot(paid, middle, color=COLOR[name], linewidth=1.6)
                axes.fill_between(paid, low, high, color=COLOR[name], alpha=0.15, linewidth=0)
            axes.set(xlim=(GRADIENT_COST, paid[-1]))
            scales(axes, paid, False, True)
            axes.set_title(problem, fontsize=10, loc="left")
            axes.grid(color="0.91", linewidth=0.6)
            axes.set_axisbelow(True)
            ends = {LABEL[name]: curve["median"][-1] for name, curve in own.items()}
            label_ends(axes, ends, {LABEL[name]: COLOR[name] for name in own}, fontsize=8.5)
        grid[0, 0].figure.supxlabel("charged evaluations", fontsize=10)
        grid[0, 0].figure.supylabel("regret (median, quartiles)", fontsize=10)


def mean(row: dict) -> float:
    return row["evaluations to target"]["mean"]


PICTURES = {"gradient_gaussian_process.png": plot}


if __name__ == "__main__":
    command("experiments.gradient_gaussian_process", __doc__, study, Size(), QUICK, PICTURES)
