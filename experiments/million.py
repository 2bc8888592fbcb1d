"""One million hyperparameters: a weight decay for every parameter of a network.

The experiment of Lorraine et al. (AISTATS 2020, section 5.2) in small.  A tanh network
64-1000-1000-10 (1,076,010 parameters) learns scikit-learn's digits from 100 images, so it
overfits; 200 further images are for validation and the other 1,497 for the test.  Every parameter
has a log weight decay of its own.  As in the paper training is not begun anew: after 10 more steps
of SGD with momentum the hypergradient is taken by the implicit function theorem, with 5 terms of
Neumann's series for the inverse Hessian, and Adam moves all the decays.  Memory does not grow with
the number of steps.  Against it stands one decay for all parameters, tuned by a grid of full
trainings with three times as many evaluations of the training gradient, about as much time.

Both choose by the validation loss, and a million numbers learn those 200 images themselves: read
the validation column as what the estimator can do, and the test columns as what it is worth.  The
last row trains on the validation images instead, with the tuned decay.  Means
and 95 % intervals over 3 cuts of the data with new initial weights, differences paired.  About
three minutes on 2 cores.

    python -m experiments.million [--quick] [--resume]
"""

import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo.problems import Examples, split
from metahpo.problems.digits import load_images
from metahpo.report import interval
from metahpo.report.plots import COLORS
from metahpo.study import Findings, Work, column, command, draw_intervals, panels

TRAIN, VALIDATION = 100, 200
RATE, STEPS_BETWEEN, TERMS = 0.05, 10, 5
GRADIENTS = STEPS_BETWEEN + 2 * TERMS + 4  # a round in training gradients; a Hessian product is two
START = 1e-3
SGD = optax.sgd(RATE, momentum=0.9)
OURS, SCALAR, NONE = "one a parameter", "one for all, tuned", "none"
BOTH = "the same, trained on validation too"
LAYERS = ("layer0", "layer1", "layer2")
METHODS = (NONE, SCALAR, OURS, BOTH)
PARTS = ("support", "query", "test")
TOLD = ("residual", "grad_norm")  # of the inverse Hessian, of the hypergradient


class Size(NamedTuple):
    """How much is computed."""

    width: int = 1000
    cuts: int = 3
    rounds: int = 40
    steps: int = 120  # of a full training


QUICK = Size(width=32, cuts=2, rounds=20, steps=60)


class Task(NamedTuple):
    """One cut of the data, and the training state from which to go on."""

    support: Examples
    query: Examples
    test: Examples
    start: object = None


def sample(key) -> Task:
    x, y = map(jnp.asarray, load_images())
    order = jax.random.permutation(key, len(y))
    return Task(*split(x[order], y[order], TRAIN, VALIDATION))


def init(key, width: int):
    sizes = (64, width, width, 10)
    keys = jax.random.split(key, 3)
    return [
        {"w": jax.random.normal(k, (m, n)) / np.sqrt(m), "b": jnp.zeros(n)}
        for k, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def scores(params, x):
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def cross_entropy(params, part: Examples):
    return mh.problems.cross_entropy(scores(params, part.x), part.y)


def training_loss(hparams, task, params):
    """With the penalty; ``log_decay`` is a pytree like the parameters, or one number."""
    decay = hparams["log_decay"]
    if jax.tree.structure(decay) != jax.tree.structure(params):
        decay = jax.tree.map(lambda p: decay, params)
    penalty = jax.tree.map(lambda d, p: jnp.sum(jnp.exp(d) * p**2) / 2, decay, params)
    return cross_entropy(params, task.support) + sum(jax.tree.leaves(penalty))


def training_problem() -> mh.Problem:
    """SGD with momentum on all training images, from where the task's ``start`` stands."""

    def family(hparams):
        def loss(params, task, split):
            if split == "query":
                return cross_entropy(params, task.query)
            return training_loss(hparams, task, params)

        return mh.TaskFamily(sample, lambda key, task: task.start.params, loss)

    problem = mh.problems.training(family(None), lambda hparams: SGD, configure=family)
    return problem._replace(init=lambda key, hparams, task: task.start)


def begin(params) -> mh.problems.TrainState:
    return mh.problems.TrainState(params, SGD.init(params))


def estimator(steps: int = STEPS_BETWEEN, **options) -> mh.Estimator:
    options = options or {"solver": "neumann", "terms": TERMS, "scale": RATE}
    return mh.hypergrad.implicit(training_problem(), steps, inner_loss=training_loss, **options)


@partial(jax.jit, static_argnums=2)  # once for all cuts
def learn(params, task, rounds: int):
    """All decays at once, after every few steps of training: them, and the history."""
    adam, implicit = optax.adam(0.2), estimator()
    start = {"log_decay": jax.tree.map(lambda p: jnp.full_like(p, np.log(START)), params)}

    def step(carry, _):
        hparams, state, adam_state = carry
        task_now = task._replace(start=state)
        estimate, _ = implicit.estimate(jax.random.key(0), hparams, task_now, ())
        updates, adam_state = adam.update(estimate.grad, adam_state)
        record = {"loss": estimate.loss} | {name: estimate.info[name] for name in TOLD}
        hparams = optax.apply_updates(hparams, updates)
        return (hparams, estimate.info["state"], adam_state), record

    carry, history = jax.lax.scan(step, (start, begin(params), adam.init(start)), length=rounds)
    return carry[0]["log_decay"], history


@jax.jit
def train_on(hparams, state, task):
    """Ten more steps; compiled once for trainings of any length."""
    train = mh.inner.unroll(training_problem(), STEPS_BETWEEN)
    return train(jax.random.key(0), hparams, task._replace(start=state))


def full_training(log_decay, params, task, steps: int):
    state = begin(params)
    for _ in range(0, steps, STEPS_BETWEEN):
        state = train_on({"log_decay": log_decay}, state, task)
    return state.params


@jax.jit
def judge(params, task):
    """Loss and accuracy of each part, f[3, 2]."""

    def one(part):
        right = mh.problems.accuracy(scores(params, part.x), part.y)
        return jnp.stack([cross_entropy(params, part), right])

    return jnp.stack([one(getattr(task, name)) for name in PARTS])


def tune(params, task, size: Size):
    """The grid: decays, validation losses and the best one's parameters."""
    count = 3 * (size.rounds * GRADIENTS + size.steps) // size.steps
    grid, losses, best = np.linspace(np.log(1e-5), np.log(0.3), count), [], None
    for log_decay in grid:
        trained = full_training(jnp.float32(log_decay), params, task, size.steps)
        loss = float(judge(trained, task)[PARTS.index("query"), 0])
        best = trained if not losses or loss < min(losses) else best
        losses.append(loss if np.isfinite(loss) else np.inf)
    return grid, np.array(losses), best


def study_cut(key, size: Size) -> dict[str, np.ndarray]:
    """What one cut of the data gives.

    ``judged`` f[METHODS, PARTS, 2], losses and accuracies; ``seconds`` f[2] of ours and of the
    grid; all rounds' validation losses and TOLD; ``grid`` and ``grid_loss`` f[n]; and the log
    decays of the weights, ``layer0`` to ``layer2``.
    """
    data_key, init_key = jax.random.split(key)
    task, params = sample(data_key), init(init_key, size.width)
    marks = [time.perf_counter()]
    decays, history = learn(params, task, size.rounds)
    learned = full_training(decays, params, task, size.steps)
    marks.append(time.perf_counter())
    grid, losses, tuned = tune(params, task, size)
    marks.append(time.perf_counter())
    union = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), task.support, task.query)
    best = jnp.float32(grid[np.argmin(losses)])
    none = full_training(jnp.float32(-np.inf), params, task, size.steps)
    both = full_training(best, params, task._replace(support=union), size.steps)
    judged = np.array([judge(each, task) for each in (none, tuned, learned, both)])
    found = {"judged": judged, "seconds": np.diff(marks), "grid": grid, "grid_loss": losses}
    return found | history | {name: each["w"] for name, each in zip(LAYERS, decays, strict=True)}


def tabulate(cuts, size: Size):
    weights = (64 + size.width + 10) * size.width
    grid = cuts["grid"].shape[1]
    # Hyperparameters and training gradients a cut.
    counts = {
        NONE: (0, size.steps),
        SCALAR: (1, grid * size.steps),
        OURS: (weights + 2 * size.width + 10, size.rounds * GRADIENTS + size.steps),
        BOTH: (1, (grid + 1) * size.steps),
    }
    seconds = dict(zip((OURS, SCALAR), cuts["seconds"].sum(axis=0), strict=True))
    judged = np.moveaxis(cuts["judged"].astype(float), 0, -1)  # f[METHODS, PARTS, 2, cuts]
    rows = []
    for name, (_, query, test) in zip(METHODS, judged, strict=True):
        count, gradients = counts[name]
        row = {"weight decay": name, "hyperparameters": count, "gradients a cut": gradients}
        row["s"] = seconds.get(name)
        if name != BOTH:
            row["validation loss"] = interval(query[0])
        row |= {"test loss": interval(test[0]), "test accuracy %": interval(100 * test[1])}
        if name != OURS:
            row["test loss minus ours"] = interval(test[0] - judged[METHODS.index(OURS), 2, 0])
        rows.append(row)
    return rows


def study(size: Size, work: Work) -> Findings:
    keys = jax.random.split(jax.random.key(0), size.cuts)
    cuts = work.each_seed(["cut"], size.cuts, lambda _, i: study_cut(keys[i], size))["cut"]
    arrays = {
        "history": {name: cuts[name].astype(float) for name in ("loss", *TOLD)},
        "grid": cuts["grid"][0],
        "grid_loss": cuts["grid_loss"],
        "log_decay": {name: cuts[name][0].ravel()[:20000] for name in LAYERS},
        "first_layer": cuts["layer0"][0],
    }
    return Findings(
        tabulate(cuts, size),
        formats={"s": ".0f"},
        settings={"terms": TERMS, "rate": RATE, "seconds": work.seconds},
        arrays=arrays,
    )


def plot(results, path) -> None:
    """Test loss and accuracy of every weight decay."""
    rows = results["rows"]
    count = {row["weight decay"]: row["hyperparameters"] for row in rows}
    right = column(rows, "test accuracy %", "weight decay")
    title = (
        f"With a decay for each of {count[OURS]:,} parameters {right[OURS].mean:.1f} % of the test "
        f"images are right, with one for all {right[SCALAR].mean:.1f} %"
    )
    with panels(path, 1, 2, size=(8, 3), title=title, sharey=True) as axes:
        for axis, name, digits in zip(axes, ("test accuracy %", "test loss"), "12", strict=True):
            found = column(rows, name, "weight decay")
            found["one for all, trained\non validation too"] = found.pop(BOTH)
            draw_intervals(axis, found, colors={OURS: COLORS[0]}, digits=f".{digits}f")
            axis.set(xlabel=f"{name}, 95 % intervals")


PICTURES = {"million.png": plot}


if __name__ == "__main__":
    command("experiments.million", __doc__, study, Size(), QUICK, PICTURES)
