"""MAML's own hyperparameters, tuned: inner rate, inner steps and meta-rate, on the sinusoid.

A whole meta-training is a Problem: an ordinary training by Adam whose minibatch is 25 tasks with 5
shots and 10 query points and whose loss is the error after adaptation.  It is short, 400 of the
paper's 70,000 rounds, so what is tuned is how well MAML does within 400 rounds; a tuner that may
pay for more would find other values.  The objective is the error of 200 validation tasks of 100
points.  Inner steps are masked: all trainings run 5, and those beyond their number have the rate
0, so that one compiled program with ``vmap`` serves every member; it also makes a training with
one step cost as much as one with five, and cost here counts trainings.

The inner rate is searched in [0.001, 0.3], the meta-rate in [0.0001, 0.1], both logarithmic, the
steps in 1 ... 5.  Every method gets 40 meta-trainings: random search and differential evolution 8
in each of 5 rounds; the hypergradient, by forward mode through the meta-training and its Adam, 2
in each of 4 rounds, counted as 5 trainings each (a tangent costs 1.8 trainings, and there are
two): both rates descend, the steps stay as drawn.

What each found, and the paper's values (0.01, 1 step, 0.001), then train again from fresh weights
on fresh tasks, for 400 rounds and for ten times as many, and are judged on 2,000 fresh tasks.
Means and 95 % intervals over 6 searches, differences paired.  The committed searches took seven
minutes on one core.

    python -m experiments.meta_hyperparameters [--quick] [--resume]
"""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo.report.plots import COLORS
from metahpo.study import Findings, Work, column, command, draw_intervals, paired, panels

TASKS, SHOTS, QUERIES, MOST_STEPS = 25, 5, 10, 5
SPACE = {
    "inner_rate": mh.Float(1e-3, 0.3, log=True),
    "inner_steps": mh.Int(1, MOST_STEPS),
    "meta_rate": mh.Float(1e-4, 1e-1, log=True),
}
PAPER = {"inner_rate": 0.01, "inner_steps": 1, "meta_rate": 1e-3}
GRADIENT_COST = 5  # a hypergradient in meta-trainings


class Size(NamedTuple):
    """How much is computed."""

    meta_rounds: int = 400
    longer: int = 10  # times as many rounds for the second judgement
    budget: int = 40  # meta-trainings a search
    seeds: int = 6
    validation: int = 200
    test: int = 2000


QUICK = Size(meta_rounds=10, longer=2, budget=16, seeds=2, validation=20, test=50)


def episodes(key, count: int, queries: int):
    """Tasks stacked along a leading axis."""
    sample = mh.problems.sinusoid(SHOTS, queries).sample
    return jax.vmap(sample)(jax.random.split(key, count))


def adapted_error(hparams, params, tasks):
    """The mean query error of MAML after ``inner_steps`` updates, of MOST_STEPS that are run."""

    def rate(count):
        return jnp.where(count < hparams["inner_steps"], hparams["inner_rate"], 0.0)

    problem = mh.meta.maml(mh.problems.sinusoid(SHOTS), rate)
    loss = mh.inner.outer_loss(problem, MOST_STEPS)
    return jax.vmap(lambda task: loss(jax.random.key(0), params, task)[0])(tasks).mean()


def meta_training(validation: int) -> mh.Problem:
    """Meta-training as a Problem: a step is a round, the outer loss that of validation tasks."""
    sinusoid = mh.problems.sinusoid(SHOTS)

    def family(hparams):
        return mh.TaskFamily(
            sample=lambda key: episodes(key, validation, 100),
            init=lambda key, tasks: mh.meta.initial_params(key, sinusoid),
            loss=lambda params, tasks, split: adapted_error(hparams, params, tasks),
        )

    return mh.problems.training(
        family(PAPER),
        optimizer=lambda hparams: optax.adam(hparams["meta_rate"]),
        configure=family,
        minibatch=lambda key, tasks: episodes(key, TASKS, QUERIES),
    )


METHODS = {  # a strategy, its population, and the meta-trainings that an evaluation costs
    "random search": (mh.strategies.random, 8, 1),
    "differential evolution": (mh.strategies.differential_evolution, 8, 1),
    "hypergradient": (mh.strategies.hypergradient, 2, GRADIENT_COST),
}


def search(make, population: int, cost: int, size: Size):
    """``key -> (best hyperparameters, losses f[rounds, P])``, compiled once for all seeds."""
    problem, rounds = meta_training(size.validation), size.budget // (population * cost)
    gradient = mh.hypergrad.forward(problem, size.meta_rounds) if cost > 1 else None
    options = {"rounds": rounds, "steps": size.meta_rounds, "estimator": gradient}

    @jax.jit
    def run(key):
        result = mh.search(key, problem, SPACE, make(SPACE, population), **options)
        return result.best_hparams, result.history.loss

    return run


def judge(size: Size):
    """``(key, hparams) -> f[2]``: test errors after the short and after the long training."""
    problem = meta_training(size.validation)

    def trained(key, hparams, rounds):
        keys = jax.random.split(key)
        state = mh.inner.unroll(problem, rounds)(keys[0], hparams, None)
        tests = episodes(keys[1], size.test, 100)
        parts = jax.tree.map(lambda x: x.reshape(10, -1, *x.shape[1:]), tests)
        return jax.lax.map(lambda part: adapted_error(hparams, state.params, part), parts).mean()

    lengths = (size.meta_rounds, size.longer * size.meta_rounds)
    return jax.jit(lambda key, h: jnp.stack([trained(key, h, rounds) for rounds in lengths]))


PAPERS = "the paper's values"


def study(size: Size, work: Work) -> Findings:
    """Searches and the paper's values, each judged by trainings of both lengths."""
    judged = judge(size)
    searches = {name: search(*method, size) for name, method in METHODS.items()}

    def one_part(method, seed):
        search_key, test_key = jax.random.split(jax.random.key(seed))
        begin, losses = time.perf_counter(), np.zeros((0, 0))
        found = {key: jnp.asarray(value) for key, value in PAPER.items()}
        if method != PAPERS:
            found, losses = jax.block_until_ready(searches[method](search_key))
        seconds = time.perf_counter() - begin
        test = judged(test_key, found)
        return {**found, "losses": losses, "test": test, "seconds": seconds}

    found = work.each_seed((PAPERS, *METHODS), size.seeds, one_part)
    return Findings(
        tabulate(found, size),
        formats={"s a search": ".0f"},
    )


def tabulate(found, size: Size):
    errors = []
    for i, rounds in enumerate((size.meta_rounds, size.longer * size.meta_rounds)):
        test = {name: each["test"][:, i] for name, each in found.items()}
        errors.append(paired(test, PAPERS, f"error, {rounds} rounds", f"minus paper's, {rounds}"))
    rows = []
    for name, each in found.items():
        row = {"method": name, "trainings": 0 if name == PAPERS else size.budget}
        row |= errors[0][name] | errors[1][name]
        row |= {key: float(np.median(each[key])) for key in SPACE}
        if name != PAPERS:
            row["s a search"] = float(each["seconds"].mean())
        rows.append(row)
    return rows


def plot(results, path) -> None:
    """What each search found, the median, and the errors of the trainings with it."""
    rows, size = results["rows"], results["settings"]
    names = {
        row[
            "method"
        ]: f"{row['method']}\ninner {row['inner_rate']:.2g}, meta {row['meta_rate']:.2g}, "
        f"{row['inner_steps']:g} step{'' if row['inner_steps'] == 1 else 's'}"
        for row in rows
    }
    lengths = (size["meta_rounds"], size["longer"] * size["meta_rounds"])
    errors = {rounds: column(rows, f"error, {rounds} rounds", "method") for rounds in lengths}
    short = errors[lengths[0]]
    best = min(METHODS, key=lambda name: short[name].mean)
    title = (
        f"After {lengths[0]:,} rounds what {best} found errs by {short[best].mean:.2f}, "
        f"the paper's values by {short[PAPERS].mean:.2f}"
    )
    with panels(path, 1, 2, size=(8, 3.6), title=title, sharey=True) as axes:
        for axis, (rounds, cells) in zip(axes, errors.items(), strict=True):
            named = {names[name]: cell for name, cell in cells.items()}
            draw_intervals(axis, named, colors={names[PAPERS]: COLORS[1]}, digits=".2f")
            axis.set(xlabel=f"test error after {rounds:,} rounds,\n95 % intervals", xlim=(0, None))


PICTURES = {"meta_hyperparameters.png": plot}


if __name__ == "__main__":
    command("experiments.meta_hyperparameters", __doc__, study, Size(), QUICK, PICTURES)
