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
Means and 95 % intervals over 6 searches, differences paired.  Searches are kept under ``parts``, so
an interrupted study goes on from there.  The committed ones took seven minutes on one core.

    python -m experiments.meta_hyperparameters [--out results/meta_hyperparameters] [--quick]
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo.run.progress import reporter

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


FULL = Size()
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
            describe=lambda tasks: jnp.zeros(0),
        )

    return mh.problems.training(
        family(PAPER),
        optimizer=lambda hparams: optax.adam(hparams["meta_rate"]),
        configure=family,
        minibatch=lambda key, tasks: episodes(key, TASKS, QUERIES),
    )


class Method(NamedTuple):
    """A strategy, and how many meta-trainings one of its evaluations costs."""

    strategy: Callable[[int], mh.Strategy]  # of the population
    population: int
    cost: int = 1


METHODS = {
    "random search": Method(lambda n: mh.strategies.random(SPACE, n), 8),
    "differential evolution": Method(lambda n: mh.strategies.differential_evolution(SPACE, n), 8),
    "hypergradient": Method(lambda n: mh.strategies.hypergradient(SPACE, n), 2, GRADIENT_COST),
}


def search(method: Method, size: Size):
    """``key -> (best hyperparameters, losses f[rounds, P])``, compiled once for all seeds."""
    problem = meta_training(size.validation)
    rounds = size.budget // (method.population * method.cost)

    @jax.jit
    def run(key):
        result = mh.search(
            key,
            problem,
            SPACE,
            method.strategy(method.population),
            rounds=rounds,
            steps=size.meta_rounds,
            estimator=mh.hypergrad.forward(problem, size.meta_rounds) if method.cost > 1 else None,
        )
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


def one_part(run, judged, seed: int) -> dict[str, np.ndarray]:
    """A search and its judgement; the paper's values where there is nothing to run."""
    begin, keys = time.perf_counter(), jax.random.split(jax.random.key(seed))
    hparams, losses = ({k: jnp.asarray(v) for k, v in PAPER.items()}, np.zeros((0, 0)))
    if run is not None:
        hparams, losses = jax.block_until_ready(run(keys[0]))
    seconds = time.perf_counter() - begin
    found = {name: np.asarray(value) for name, value in hparams.items()}
    test = np.asarray(judged(keys[1], hparams))
    return found | {"losses": np.asarray(losses), "test": test, "seconds": np.array(seconds)}


PAPERS = "the paper's values"


def study(out: Path, size: Size = FULL, progress: bool = False):
    """``{method: [part of each seed]}``."""
    judged, found = judge(size), {}
    names = [PAPERS, *METHODS]
    with reporter(progress, "meta-hyperparameters", len(names) * size.seeds) as show:
        for name in names:
            run, found[name] = None if name == PAPERS else search(METHODS[name], size), []
            for seed in range(size.seeds):
                file = out / "parts" / f"{name}-{seed}-{size.meta_rounds}.npz"
                if not file.exists():
                    mh.report.save_npz(file, one_part(run, judged, seed))
                found[name].append(mh.report.load_npz(file))
                tests = [part["test"][0] for parts in found.values() for part in parts]
                show(sum(map(len, found.values())), float(np.nanmin(tests)))
    return found


def tabulate(found, size: Size):
    base = np.array([part["test"] for part in found[PAPERS]])
    rows = []
    for name, parts in found.items():
        test = np.array([part["test"] for part in parts])
        row = {"method": name, "trainings": 0 if name == PAPERS else size.budget}
        for i, rounds in enumerate((size.meta_rounds, size.longer * size.meta_rounds)):
            row[f"error, {rounds} rounds"] = mh.report.interval(test[:, i])
            if name != PAPERS:
                row[f"minus paper's, {rounds}"] = mh.report.interval(test[:, i] - base[:, i])
        for key in SPACE:
            row[key] = float(np.median([part[key] for part in parts]))
        if name != PAPERS:
            row["s a search"] = float(np.mean([part["seconds"] for part in parts]))
        rows.append(row)
    return rows


def plot(found, size: Size, path: Path) -> None:
    """What was found, and how good it is; needs matplotlib."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for i, (name, parts) in enumerate(found.items()):
        values = {key: np.array([part[key] for part in parts]) for key in SPACE}
        size_of_mark = 20 + 30 * (values["inner_steps"] - 1)
        left.scatter(
            values["inner_rate"], values["meta_rate"], s=size_of_mark, alpha=0.6, label=name
        )
        if name != PAPERS:
            cost = METHODS[name].cost
            losses = np.array([part["losses"] for part in parts]).reshape(len(parts), -1)
            best = np.minimum.accumulate(np.where(np.isfinite(losses), losses, np.inf), axis=1)
            x = cost * np.arange(1, best.shape[1] + 1)
            middle.step(x, best.mean(axis=0), where="post", color=f"C{i}", label=name)
        for j, marker in enumerate("os"):
            mean, half, _ = mh.report.interval([part["test"][j] for part in parts])
            y = i + 0.12 * (2 * j - 1)
            right.errorbar(mean, y, xerr=half, fmt=marker, color=f"C{i}", capsize=3)
    left.set(xscale="log", yscale="log", xlabel="inner rate", ylabel="meta-rate")
    legend = left.legend(frameon=False, fontsize=8, title="larger: more inner steps")
    for handle in legend.legend_handles:
        handle.set_sizes([30])
    middle.set(xlabel="meta-trainings", ylabel="lowest validation error so far", yscale="log")
    middle.legend(frameon=False, fontsize=8)
    long = size.longer * size.meta_rounds
    right.plot([], [], "o", color="0.3", label=f"{size.meta_rounds} rounds")
    right.plot([], [], "s", color="0.3", label=f"{long} rounds")
    right.set_yticks(range(len(found)), list(found))
    right.set(xlabel="test error, trained again", xscale="log", ylim=(len(found) - 0.5, -0.5))
    right.legend(frameon=False, fontsize=8)
    for axis in (left.xaxis, right.xaxis):  # the numbers would overlap
        axis.set_minor_formatter(NullFormatter())
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/meta_hyperparameters"))
    parser.add_argument("--quick", action="store_true", help="10 rounds, 16 trainings, 2 seeds")
    arguments = parser.parse_args()
    size, out = QUICK if arguments.quick else FULL, arguments.out
    found = study(out, size, progress=True)
    rows = tabulate(found, size)
    mh.report.print_table(rows, formats={"s a search": ".0f"})
    mh.report.save_json(out / "results.json", {"settings": size._asdict(), "rows": rows})
    try:
        plot(found, size, out / "meta_hyperparameters.png")
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'metahpo[plot]')")


if __name__ == "__main__":
    main()
