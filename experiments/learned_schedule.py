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

    python -m experiments.learned_schedule [--out results/learned_schedule] [--quick]
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo.problems.digits import load_pools
from metahpo.run.progress import reporter

STEPS, BATCH, HIDDEN, START = 200, 16, 32, 0.03
SMOOTHING = 5.0  # steps
CLIP = 0.05  # about the norm of a gradient where training is not chaotic
COST = 4  # a hypergradient in trainings
OURS = "learned, 200 rates"
CHUNK = 5


class Size(NamedTuple):
    """How much is computed; the three methods' budgets follow from ``rounds`` and ``seeds``."""

    steps: int = STEPS
    rounds: int = 50
    seeds: int = 8
    fresh: int = 128

    @property
    def trainings(self) -> int:
        return COST * self.rounds * self.seeds


FULL = Size()
QUICK = Size(steps=50, rounds=20, seeds=2, fresh=16)


class Part(NamedTuple):
    """Images f[n, 64] and labels i32[n]."""

    x: jax.Array
    y: jax.Array


class Task(NamedTuple):
    """The one data set; only initial weights and minibatches are random."""

    support: Part
    query: Part
    test: Part


def data(key=None) -> Task:
    del key
    return Task(*(Part(jnp.asarray(x), jnp.asarray(y)) for x, y in load_pools()))


def scores(params, x):
    return jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def cross_entropy(params, part: Part):
    losses = optax.softmax_cross_entropy_with_integer_labels(scores(params, part.x), part.y)
    return jnp.mean(losses)


def init(key, task):
    first, second = jax.random.split(key)
    return {
        "w1": jax.random.normal(first, (64, HIDDEN)) / 8,
        "b1": jnp.zeros(HIDDEN),
        "w2": jax.random.normal(second, (HIDDEN, 10)) / np.sqrt(HIDDEN),
        "b2": jnp.zeros(10),
    }


def minibatch(key, task: Task) -> Task:
    rows = jax.random.randint(key, (BATCH,), 0, len(task.support.y))
    return task._replace(support=Part(task.support.x[rows], task.support.y[rows]))


def schedule_problem() -> mh.Problem:
    """SGD whose hyperparameters are ``{"log_rates": f[steps]}``."""
    family = mh.TaskFamily(
        sample=data,
        init=init,
        loss=lambda params, task, split: cross_entropy(params, getattr(task, split)),
        describe=lambda task: jnp.zeros(0),
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
        right = jnp.argmax(scores(params, task.test.x), axis=1) == task.test.y
        return jnp.stack([*(cross_entropy(params, part) for part in task), jnp.mean(right)])

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


def clipped(estimator: mh.Estimator) -> mh.Estimator:
    """Shortens each training's gradient to CLIP, so that one chaotic training cannot drown all."""

    def estimate(key, hparams, task, memory):
        result, memory = estimator.estimate(key, hparams, task, memory)
        scale = jnp.minimum(1.0, CLIP / result.info["grad_norm"])
        return result._replace(grad=jax.tree.map(lambda g: scale * g, result.grad)), memory

    return estimator._replace(estimate=estimate)


def learn(key, task, size: Size, report):
    """Adam on the log rates: them, and history of losses and gradient norms."""
    problem = schedule_problem()
    estimator = clipped(mh.hypergrad.reverse(problem, size.steps))
    optimizer = optax.chain(
        smoothed(size.steps),
        optax.adam(optax.cosine_decay_schedule(0.1, size.rounds)),
    )
    start = {"log_rates": jnp.full(size.steps, jnp.log(START))}

    @jax.jit
    def chunk(state):
        result = mh.meta_train(
            key,
            problem,
            estimator,
            start,
            optimizer,
            rounds=CHUNK,
            tasks=size.seeds,
            state=state,
        )
        return result.state, result.history

    floats = [start["log_rates"]]
    state = mh.run.MetaState(jnp.int32(0), start, optimizer.init(floats), ())
    histories = []
    for _ in range(0, size.rounds, CHUNK):
        state, history = chunk(state)
        histories.append(history)
        report(float(history.loss.min()))
    return state.hparams["log_rates"], jax.tree.map(lambda *h: jnp.concatenate(h), *histories)


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


def study(size: Size = FULL, seed: int = 1, progress: bool = False):
    """Everything that the table and the picture show."""
    begin = time.perf_counter()
    task = data()
    keys = jax.random.split(jax.random.key(seed), 4)
    chunks = len(range(0, size.rounds, CHUNK))
    with reporter(progress, "learned schedule", chunks + 2) as show:
        done = iter(range(1, chunks + 1))
        learned, history = learn(keys[0], task, size, lambda loss: show(next(done), loss))
        tuned, found = tune_cosine(keys[1], task, size)
        show(chunks + 1, float(history.loss.min()))
        constant = tune_constant(keys[2], task, size)
        show(chunks + 2, float(history.loss.min()))
    start = jnp.full(size.steps, jnp.log(START))
    schedules = {
        "start": start,
        "constant, tuned": constant,
        "cosine, tuned": tuned,
        OURS: learned,
    }
    fresh = jax.random.split(keys[3], size.fresh)
    judged = {
        name: np.asarray(jax.jit(judge)(log_rates, fresh, task))
        for name, log_rates in schedules.items()
    }
    rows = []
    for name, (train, valid, test, accuracy) in judged.items():
        row = {
            "schedule": name,
            "cost in trainings": 0 if name == "start" else size.trainings,
            "training loss": mh.report.interval(train),
            "validation loss": mh.report.interval(valid),
        }
        if name != OURS:
            row["minus learned"] = mh.report.interval(valid - judged[OURS][1])
        row["test loss"] = mh.report.interval(test)
        if name != OURS:
            row["minus learned, test"] = mh.report.interval(test - judged[OURS][2])
        row["test accuracy %"] = mh.report.interval(100 * accuracy)
        rows.append(row)
    arrays = {"schedules": schedules, "judged": judged, "history": history}
    return rows, arrays, {"cosine": found}, time.perf_counter() - begin


def plot(rows, arrays, path: Path) -> None:
    """The schedules, the learning curve and the paired differences; needs matplotlib."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    colors = dict(zip(arrays["schedules"], ("0.7", "C2", "C1", "C0"), strict=True))
    for name, log_rates in arrays["schedules"].items():
        left.plot(np.exp(log_rates), color=colors[name], label=name, linewidth=1.5)
    left.set(xlabel="step", ylabel="rate (momentum 0.9)", yscale="log")
    left.legend(frameon=False, fontsize=8)
    middle.plot(1 + np.arange(len(arrays["history"].loss)), arrays["history"].loss, color="C0")
    middle.set(xlabel="hypergradient step", ylabel="validation loss, mean of its trainings")
    for i, row in enumerate(rows[:-1]):
        for shift, column, color, label in (
            (-0.1, "minus learned", "C0", "validation"),
            (0.1, "minus learned, test", "C3", "test"),
        ):
            mean, half, _ = row[column]
            label = label if i == 0 else None
            right.errorbar(mean, i + shift, xerr=half, fmt="o", color=color, capsize=3, label=label)
    right.axvline(0, color="0.4", linewidth=0.8)
    right.set_yticks(range(len(rows) - 1), [row["schedule"] for row in rows[:-1]])
    right.set(xlabel="loss minus that of the learned schedule", ylim=(len(rows) - 1.5, -0.5))
    right.legend(frameon=False, fontsize=8)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/learned_schedule"))
    parser.add_argument("--quick", action="store_true", help="50 steps and 20 rounds of 2")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    rows, arrays, notes, seconds = study(size, progress=True)
    mh.report.print_table(rows)
    out = arguments.out
    settings = {**size._asdict(), "cost_in_trainings": size.trainings, "seconds": round(seconds, 1)}
    mh.report.save_json(out / "results.json", {"settings": settings, **notes, "rows": rows})
    mh.report.save_npz(out / "arrays.npz", arrays)
    try:
        plot(rows, arrays, out / "learned_schedule.png")
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'metahpo[plot]')")


if __name__ == "__main__":
    main()
