"""Numbers of Bayesian optimisation, learned over many tasks: whole runs inside a meta-training.

A run of ``gaussian_process`` is a training process: an update asks for a point, looks up its loss
and tells it, and the hyperparameters are the run's own numbers: how many standard deviations the
upper confidence bound adds, and the prior's median length scale and noise.  So ``meta_train`` with
evolution strategies learns them over many tasks, and hundreds of runs are one program.

Tasks are LCBench's data sets, of which YAHPO's surrogate tells the validation accuracy of dense
networks of seven hyperparameters after 52 epochs.  Every other data set is learned from; the
others are held out.  What is learned is the mean over a run of 30 evaluations of the incumbent's
regret, (its loss - the best on record) / (the worst - the best).  Each learned set of numbers
starts at the strategy's own; ``log EI`` has no number of its own and learns the prior alone.

Reported are the regrets at the end and in the mean over a run on the data sets held out, means over
20 seeds of the mean over data sets with 95 % intervals, and the paired difference from the default.
The meta-training is short, 25 rounds of 6 data sets, and data sets differ far more than numbers do.
The data: YAHPO Gym's ``lcbench`` in ``yahpo`` of a folder that ``--path`` or METAHPO_DATA names.
Needs the extra ``surrogate``.

    python -m experiments.learned_acquisition [--quick] [--resume] [--path DATA]
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from experiments.multi_fidelity import METRIC, WHOLE, read
from metahpo.problems.surrogate import Surrogate
from metahpo.report.plots import COLORS, label_ends, scales
from metahpo.study import Findings, Work, command, paired, panels
from metahpo.surrogates import acquisition

PRIOR = {"length": 0.0, "noise": 0.0}  # logarithms, in units of the default
BOUND = {"deviations": float(np.log(2.0)), **PRIOR}
DEFAULT = "log EI"
# What a run starts from, and whether it is learned.
METHODS = {
    DEFAULT: (PRIOR, False),
    "log EI, learned prior": (PRIOR, True),
    "UCB": (BOUND, False),
    "UCB, learned": (BOUND, True),
}
COLOR = dict(zip(METHODS, ("#777777", COLORS[0], COLORS[3], COLORS[1]), strict=True))


class Size(NamedTuple):
    """How much is computed."""

    evaluations: int = 30
    rounds: int = 25
    tasks: int = 6  # of a round
    pairs: int = 4  # of evolution strategies
    sigma: float = 0.3
    rate: float = 0.1
    seeds: int = 20
    held_out: int = 17  # data sets, at most
    seed: int = 1
    path: Path | None = None  # of the data, by default METAHPO_DATA


QUICK = Size(evaluations=10, rounds=2, tasks=2, pairs=1, seeds=2, held_out=2)


class Run(NamedTuple):
    """A run of Bayesian optimisation under way."""

    strategy: tuple  # its state
    lowest: jax.Array  # f[], regret
    total: jax.Array  # f[], of the incumbents' regrets
    count: jax.Array  # i32[], evaluations


class Found(NamedTuple):
    """What a method did."""

    numbers: np.ndarray  # f[H], by the names' order
    losses: np.ndarray  # f[rounds], of the meta-training
    regret: np.ndarray  # f[tasks, seeds, evaluations], of the incumbents on what is held out


def strategy(numbers: dict, space: mh.space.Space, size: Size) -> mh.Strategy:
    """A process with these numbers, logarithms all."""
    chosen = {name: jnp.exp(numbers[name]) for name in PRIOR}
    if "deviations" in numbers:
        chosen["acquisition"] = acquisition.ucb(jnp.exp(numbers["deviations"]))
    return mh.strategies.gaussian_process(space, capacity=size.evaluations, **chosen)


def regrets(surrogate: Surrogate):
    """``(unit f[D], task i32[]) -> f[]``, after a whole training."""
    problem = mh.problems.surrogate(surrogate, METRIC)
    low, high = jnp.asarray(surrogate.best[METRIC]), jnp.asarray(surrogate.worst[METRIC])

    def regret(unit, task):
        hparams = mh.space.decode(surrogate.space, unit)
        loss = problem.loss(jax.random.key(0), hparams, task, WHOLE)
        return mh.problems.normalised_regret(loss, low[task], high[task])

    return regret


def campaign(surrogate: Surrogate, size: Size) -> mh.Problem:
    """A whole run as a Problem: an update is an evaluation, the loss is the mean regret."""
    regret, space = regrets(surrogate), surrogate.space

    def sample(key):
        return 2 * jax.random.randint(key, (), 0, (len(surrogate.instances) + 1) // 2)

    def init(key, numbers, task):
        begun = strategy(numbers, space, size).init(key)
        return Run(begun, jnp.inf, jnp.zeros(()), jnp.zeros((), jnp.int32))

    def step(key, numbers, task, run):
        method = strategy(numbers, space, size)
        ask_key, tell_key = jax.random.split(key)
        proposal, state = method.ask(ask_key, run.strategy)
        found = regret(proposal.unit[0], task)
        told = mh.Evaluation(found[None], None, jnp.ones(1, jnp.int32))
        lowest = jnp.minimum(run.lowest, found)
        state = method.tell(tell_key, state, proposal, told)
        return Run(state, lowest, run.total + lowest, run.count + 1)

    def loss(key, numbers, task, run):
        return run.total / jnp.maximum(run.count, 1)

    return mh.Problem(sample, init, step, loss)


def search(name: str, surrogate: Surrogate, size: Size) -> Found:
    """Learns a method's numbers, if it is to, and runs it on all that is held out."""
    start, learned = METHODS[name]
    numbers, losses = jax.tree.map(jnp.asarray, start), np.zeros(0)
    learn_key, test_key = jax.random.split(jax.random.key(size.seed))
    if learned:
        problem = campaign(surrogate, size)
        estimator = mh.hypergrad.es(problem, size.evaluations, size.pairs, size.sigma)
        optimizer = optax.adam(optax.cosine_decay_schedule(size.rate, size.rounds))
        result = mh.meta_train(
            learn_key, problem, estimator, numbers, optimizer, rounds=size.rounds, tasks=size.tasks
        )
        numbers, losses = result.hparams, result.history.loss
    found = tested(surrogate, size)(jax.random.split(test_key, size.seeds), numbers)
    return Found(np.array([numbers[key] for key in start]), np.asarray(losses), found)


def tested(surrogate: Surrogate, size: Size):
    """``(keys [S], numbers) -> f[tasks, S, evaluations]``, on what is held out."""
    problem = campaign(surrogate, size)
    tasks = np.arange(1, len(surrogate.instances), 2)[: size.held_out]

    def run(key, numbers, task):
        init_key, steps_key = jax.random.split(key)

        def step(run, key):
            run = problem.step(key, numbers, task, run)
            return run, run.lowest

        begun = problem.init(init_key, numbers, task)
        return jax.lax.scan(step, begun, jax.random.split(steps_key, size.evaluations))[1]

    program = jax.jit(jax.vmap(jax.vmap(run, (0, None, None)), (None, None, 0)))
    return lambda keys, numbers: np.asarray(program(keys, numbers, tasks), float)


def tabulate(records: dict[str, Found]) -> list[dict]:
    """A row a method."""
    last = {name: one.regret[..., -1].mean(0) for name, one in records.items()}
    whole = {name: one.regret.mean((0, 2)) for name, one in records.items()}
    cells = [
        paired(last, DEFAULT, "regret at the end", "minus default's"),
        paired(whole, DEFAULT, "regret in the mean", "minus the default's mean"),
    ]
    rows = []
    for name, one in records.items():
        numbers = np.exp(one.numbers)
        row = {"method": name, "learned": METHODS[name][1]}
        row |= dict(zip(METHODS[name][0], map(float, numbers), strict=True))
        rows.append(row | cells[0][name] | cells[1][name])
    return rows


def study(size: Size, work: Work) -> Findings:
    """Every method, learned on one half of the data sets, on the other half."""
    surrogate = read(size)
    records = work.each(METHODS, lambda name: search(name, surrogate, size), Found)
    drawn = {
        name: [float(f"{x:.4g}") for x in one.regret.mean((0, 1))] for name, one in records.items()
    }
    learning = {
        name: [float(f"{x:.4g}") for x in one.losses]
        for name, one in records.items()
        if one.losses.size
    }
    formats = dict.fromkeys(("deviations", "length", "noise"), ".2g")
    return Findings(
        tabulate(records), formats=formats, notes={"curves": drawn, "learning": learning}
    )


def plot(results, path) -> None:
    """The losses of the meta-trainings, and the regrets of whole runs on what is held out."""
    rows = {row["method"]: row for row in results["rows"]}
    column = "minus the default's mean"
    gains = [name for name, row in rows.items() if row["learned"] and column in row
             and row[column]["mean"] + row[column]["half_width"] < 0]  # fmt: skip
    title = (
        f"On data sets held out {' and '.join(gains)} has less regret in the mean than {DEFAULT}"
        if gains
        else f"On data sets held out no learned numbers have less regret in the mean than {DEFAULT}"
    )
    with panels(path, 1, 2, size=(8, 3.4), legends=False, title=title) as axes:
        for axis, curves in zip(axes, (results["learning"], results["curves"]), strict=True):
            for name, mean in curves.items():
                at = np.arange(1, len(mean) + 1)
                axis.plot(at, mean, color=COLOR[name], linewidth=1.6)
            axis.grid(color="0.91", linewidth=0.6)
            axis.set_axisbelow(True)
            axis.set(xlim=(1, len(mean)))
            scales(axis, at, False, axis is axes[1])
            label_ends(axis, {n: c[-1] for n, c in curves.items()}, COLOR, fontsize=8.5)
        axes[0].set(xlabel="rounds of meta-training", ylabel="mean regret of the runs")
        axes[1].set(xlabel="evaluations", ylabel="regret on data sets held out")


PICTURES = {"learned_acquisition.png": plot}


if __name__ == "__main__":
    command("experiments.learned_acquisition", __doc__, study, Size(), QUICK, PICTURES)
