"""A learning rate for each of 200 steps, learned by hypergradient, against a tuned cosine.

A tanh network 64-32-10 is trained on scikit-learn's digits (800 training, 400 validation, 597 test
images) by 200 steps of SGD with momentum 0.9 on minibatches of 16.  The hyperparameters are 200
log rates.  From a constant rate of 0.03, Adam follows the hypergradient of the validation loss
through the whole training, each time averaged over 8 trainings with new initial weights and
minibatches, each clipped where training turns chaotic and gradients explode, and smoothed over
neighbouring steps.  A hypergradient costs about 4 trainings: 50 rounds of 8 cost 1,600.

The same 1,600 trainings tune a cosine with linear warm-up, by a race: 200 random triples of peak
rate, length of warm-up and final rate on 4 seeds each, then the best 25 on 32 new seeds each.  A
constant rate is tuned with as many: a grid of 50 on 32 seeds.  All choose by the validation loss,
and are then judged by 128 trainings with fresh seeds; 95 % intervals over those, differences paired
by seed.  The learned rates beat the tuned constant and come within a few per cent of the tuned
cosine, whose three numbers are easier to find with this budget.  The settings were chosen with
other seeds.  About two minutes on 2 cores.

    python -m experiments.learned_schedule [--quick] [--resume]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo.problems import Examples, Split
from metahpo.problems.digits import load_pools
from metahpo.report import interval
from metahpo.report.plots import COLORS, label_ends, scales
from metahpo.study import Findings, Work, beside, command, draw_intervals, paired, panels

STEPS, BATCH, HIDDEN, START = 200, 16, 32, 0.03
SMOOTHING = 5.0  # steps
CLIP = 0.05  # about the norm of a gradient where training is not chaotic
COST = 4  # a hypergradient in trainings
OURS = "learned, 200 rates"


class Size(NamedTuple):
    """How much is computed; the three methods' budgets follow from ``rounds`` and ``seeds``."""

    steps: int = STEPS
    rounds: int = 50
    seeds: int = 8
    fresh: int = 128

    @property
    def trainings(self) -> int:
        return COST * self.rounds * self.seeds


QUICK = Size(steps=50, rounds=20, seeds=2, fresh=16)


def data(key=None) -> Split:
    """The one data set; only initial weights and minibatches are random."""
    del key
    return Split(*(Examples(jnp.asarray(x), jnp.asarray(y)) for x, y in load_pools()))


def scores(params, x):
    return jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def cross_entropy(params, part: Examples):
    return mh.problems.cross_entropy(scores(params, part.x), part.y)


def init(key, task):
    first, second = jax.random.split(key)
    return {
        "w1": jax.random.normal(first, (64, HIDDEN)) / 8,
        "b1": jnp.zeros(HIDDEN),
        "w2": jax.random.normal(second, (HIDDEN, 10)) / np.sqrt(HIDDEN),
        "b2": jnp.zeros(10),
    }


def minibatch(key, task: Split) -> Split:
    rows = jax.random.randint(key, (BATCH,), 0, len(task.support.y))
    return task._replace(support=Examples(task.support.x[rows], task.support.y[rows]))


def schedule_problem() -> mh.Problem:
    """SGD whose hyperparameters are ``{"log_rates": f[steps]}``."""
    family = mh.TaskFamily(
        sample=data,
        init=init,
        loss=lambda params, task, split: cross_entropy(params, getattr(task, split)),
    )

    def optimizer(hparams):
        return optax.sgd(lambda count: jnp.exp(hparams["log_rates"][count]), momentum=0.9)

    return mh.problems.training(family, optimizer, minibatch=minibatch)


def cosine(log_peak, warmup, log_final, steps: int):
    """Log rates f[steps]: linear warm-up over a share of the steps, then a cosine to the end."""
    t = (jnp.arange(steps) + 0.5) / steps
    after = (t - warmup) / (1 - warmup)
    final = jnp.exp(log_final)  # relative to the peak
    fall = final + (1 - final) * (1 + jnp.cos(jnp.pi * after)) / 2
    return log_peak + jnp.log(jnp.where(t < warmup, t / jnp.maximum(warmup, 1e-6), fall))


def judge(log_rates, keys, task):
    """Training, validation, test loss and test accuracy of trainings: f[4, seeds]."""

    def one(key):
        hparams = {"log_rates": log_rates}
        params = mh.inner.unroll(schedule_problem(), len(log_rates))(key, hparams, task).params
        right = mh.problems.accuracy(scores(params, task.test.x), task.test.y)
        return jnp.stack([*(cross_entropy(params, part) for part in task), right])

    return jax.vmap(one, out_axes=1)(keys)


def validation(schedules, keys, task):
    """Mean validation losses f[schedules] over the seeds; infinite where one diverged."""
    problem = schedule_problem()
    loss = mh.inner.outer_loss(problem, schedules.shape[1])

    def mean(log_rates):
        each = jax.vmap(lambda key: loss(key, {"log_rates": log_rates}, task)[0])(keys)
        return jnp.mean(jnp.where(jnp.isfinite(each), each, jnp.inf))

    return jax.jit(lambda: jax.lax.map(mean, schedules, batch_size=5))()


def smoothed(steps: int) -> optax.GradientTransformation:
    """Averages a gradient over neighbouring steps, which do much the same, against its noise."""
    t = np.arange(steps)
    kernel = np.exp(-((t[:, None] - t) ** 2) / (2 * SMOOTHING**2))
    kernel /= kernel.sum(axis=1, keepdims=True)
    return optax.stateless(
        lambda grads, _: jax.tree.map(lambda g: kernel.astype(g.dtype) @ g, grads)
    )


def learn(key, task, size: Size, progress: bool):
    """Adam on the log rates: them, and the history of losses and gradient norms."""
    problem = schedule_problem()
    estimator = mh.hypergrad.clipped(mh.hypergrad.reverse(problem, size.steps), CLIP)
    adam = optax.adam(optax.cosine_decay_schedule(0.1, size.rounds))
    start = {"log_rates": jnp.full(size.steps, jnp.log(START))}
    adam = optax.chain(smoothed(size.steps), adam)
    loop = mh.run.meta_loop(problem, estimator, start, adam, rounds=size.rounds, tasks=size.seeds)
    result = mh.run.drive(loop, key, progress=progress, name="learned schedule")
    return result.hparams["log_rates"], result.history


def tune_cosine(key, task, size: Size):
    """The race: its winner's log rates, and what they are."""
    draw_key, first_key, second_key = jax.random.split(key, 3)
    count, few = size.trainings // 8, max(size.trainings // 64, 1)
    low, high = jnp.array([np.log(1e-3), 0.0, np.log(1e-3)]), jnp.array([np.log(1.0), 0.5, 0.0])
    drawn = jax.random.uniform(draw_key, (count, 3), minval=low, maxval=high)
    schedules = jax.vmap(lambda triple: cosine(*triple, size.steps))(drawn)
    first = validation(schedules, jax.random.split(first_key, 4), task)
    best = jnp.argsort(first)[:few]
    second = validation(schedules[best], jax.random.split(second_key, 32), task)
    winner = best[jnp.argmin(second)]
    names = ("peak", "warm-up share", "final / peak")
    values = [jnp.exp(drawn[winner, 0]), drawn[winner, 1], jnp.exp(drawn[winner, 2])]
    return schedules[winner], dict(zip(names, map(float, values), strict=True))


def tune_constant(key, task, size: Size):
    count = max(size.trainings // 32, 2)
    levels = jnp.linspace(np.log(1e-3), np.log(1.0), count)
    schedules = jnp.tile(levels[:, None], (1, size.steps))
    return schedules[jnp.argmin(validation(schedules, jax.random.split(key, 32), task))]


def tabulate(judged, size: Size):
    measures = zip(*judged.values(), strict=True)
    train, valid, test, right = (dict(zip(judged, each, strict=True)) for each in measures)
    valid = paired(valid, OURS, "validation loss", "minus learned")
    test = paired(test, OURS, "test loss", "minus learned, test")
    rows = []
    for name in judged:
        row = {"schedule": name, "cost in trainings": 0 if name == "start" else size.trainings}
        row |= {"training loss": interval(train[name]), **valid[name], **test[name]}
        rows.append(row | {"test accuracy %": interval(100 * right[name])})
    return rows


def study(size: Size, work: Work) -> Findings:
    task, keys = data(), jax.random.split(jax.random.key(1), 4)
    learned, history = learn(keys[0], task, size, work.shown)
    tuned, cosine_found = tune_cosine(keys[1], task, size)
    schedules = {
        "start": jnp.full(size.steps, jnp.log(START)),
        "constant, tuned": tune_constant(keys[2], task, size),
        "cosine, tuned": tuned,
        OURS: learned,
    }
    fresh = jax.random.split(keys[3], size.fresh)
    judged = {name: np.asarray(jax.jit(judge)(x, fresh, task)) for name, x in schedules.items()}
    rows = tabulate(judged, size)
    arrays = {"schedules": schedules, "judged": judged, "history": history}
    return Findings(
        rows,
        settings={"cost_in_trainings": size.trainings, "seconds": work.seconds},
        notes={"cosine": cosine_found},
        arrays=arrays,
        pictures={"learned_schedule.png": lambda path: plot(rows, arrays, path)},
    )


def plot(rows, arrays, path) -> None:
    """The schedules, and the paired differences of their losses."""
    test = {row["schedule"]: float(row["test loss"].mean) for row in rows}
    constant, cosine = (
        beside(100 * (test[OURS] / test[name] - 1), ".0f", " %")
        for name in ("constant, tuned", "cosine, tuned")
    )
    title = (
        f"A rate learned for each step ends with a test loss {constant} the best constant rate's "
        f"and {cosine} the tuned cosine's"
    )
    colors = dict(zip(arrays["schedules"], ("0.5", COLORS[2], COLORS[1], COLORS[0]), strict=True))
    with panels(path, 1, 2, size=(8, 3.8), title=title) as (left, right):
        for name, log_rates in arrays["schedules"].items():
            left.plot(np.exp(log_rates), color=colors[name], linewidth=1.5)
        left.set(xlabel="step", ylabel="learning rate (momentum 0.9)", yscale="log")
        scales(left, np.arange(len(log_rates)), False, True)
        short = {name: name.split(",")[0] for name in colors}
        last = {short[name]: np.exp(rates[-1]) for name, rates in arrays["schedules"].items()}
        label_ends(left, last, {short[name]: color for name, color in colors.items()})
        for shift, column, color, label in (
            (-0.12, "minus learned", COLORS[0], "validation"),
            (0.12, "minus learned, test", COLORS[1], "test"),
        ):
            minus = {row["schedule"].replace(", ", ",\n"): row[column] for row in rows[:-1]}
            draw_intervals(right, minus, shift=shift, color=color)
            where = {"textcoords": "offset points", "ha": "center", "va": "center", "color": color}
            first = (minus["start"].mean, shift)
            right.annotate(label, first, (0, 12 if shift < 0 else -12), **where)
        right.axvline(0, color="0.4", linewidth=0.8)
        right.set(xlabel="loss minus the learned schedule's,\n95 % intervals, paired by seed")


if __name__ == "__main__":
    command("experiments.learned_schedule", __doc__, study, Size(), QUICK)
