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

    python -m experiments.million [--out results/million] [--quick]
"""

import argparse
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo.run.progress import reporter

TRAIN, VALIDATION = 100, 200
RATE, STEPS_BETWEEN, TERMS = 0.05, 10, 5
GRADIENTS = STEPS_BETWEEN + 2 * TERMS + 4  # a round in training gradients; a Hessian product is two
START = 1e-3
OURS, SCALAR, NONE = "one a parameter", "one for all, tuned", "none"
BOTH = "the same, trained on validation too"


class Size(NamedTuple):
    """How much is computed."""

    width: int = 1000
    cuts: int = 3
    rounds: int = 40
    steps: int = 120  # of a full training


FULL = Size()
QUICK = Size(width=32, cuts=2, rounds=20, steps=60)


class Part(NamedTuple):
    """Images f[n, 64] and labels i32[n]."""

    x: jax.Array
    y: jax.Array


class Task(NamedTuple):
    """One cut of the data, and the training state from which to go on."""

    support: Part
    query: Part
    test: Part
    start: object = None


@cache
def images() -> Part:
    from sklearn.datasets import load_digits

    data = load_digits()
    x = (data.data - data.data.mean()) / data.data.std()
    return Part(x.astype(np.float32), data.target.astype(np.int32))


def sample(key) -> Task:
    data = images()
    order = jax.random.permutation(key, len(data.y))
    x, y = jnp.asarray(data.x)[order], jnp.asarray(data.y)[order]
    cuts = (slice(TRAIN), slice(TRAIN, TRAIN + VALIDATION), slice(TRAIN + VALIDATION, None))
    return Task(*(Part(x[cut], y[cut]) for cut in cuts))


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


def cross_entropy(params, part: Part):
    losses = optax.softmax_cross_entropy_with_integer_labels(scores(params, part.x), part.y)
    return jnp.mean(losses)


def training_loss(hparams, task, params):
    """With the penalty; ``log_decay`` is a pytree like the parameters, or one number."""
    decay = hparams["log_decay"]
    if jax.tree.structure(decay) != jax.tree.structure(params):
        decay = jax.tree.map(lambda p: decay, params)
    penalty = jax.tree.map(lambda d, p: jnp.sum(jnp.exp(d) * p**2) / 2, decay, params)
    return cross_entropy(params, task.support) + sum(jax.tree.leaves(penalty))


def training_problem() -> mh.Problem:
    """SGD with momentum on all training images, from where the task's ``start`` stands."""
    sgd = optax.sgd(RATE, momentum=0.9)

    def step(key, hparams, task, state):
        del key
        grads = jax.grad(training_loss, argnums=2)(hparams, task, state.params)
        updates, opt_state = sgd.update(grads, state.opt_state)
        return mh.problems.TrainState(optax.apply_updates(state.params, updates), opt_state)

    return mh.Problem(
        sample=sample,
        init=lambda key, hparams, task: task.start,
        step=step,
        loss=lambda key, hparams, task, state: cross_entropy(state.params, task.query),
        describe=lambda task: jnp.zeros(0),
    )


def begin(params) -> mh.problems.TrainState:
    return mh.problems.TrainState(params, optax.sgd(RATE, momentum=0.9).init(params))


def estimator(steps: int = STEPS_BETWEEN, **options) -> mh.Estimator:
    options = options or {"solver": "neumann", "terms": TERMS, "scale": RATE}
    return mh.hypergrad.implicit(training_problem(), steps, inner_loss=training_loss, **options)


ADAM = optax.adam(0.2)


@jax.jit
def round_(hparams, state, adam_state, task):
    """Some steps of training, then one of Adam on all decays."""
    estimate, _ = estimator().estimate(jax.random.key(0), hparams, task._replace(start=state), ())
    updates, adam_state = ADAM.update(estimate.grad, adam_state)
    told = {name: estimate.info[name] for name in ("residual", "grad_norm")}
    record = {"loss": estimate.loss, **told}
    return optax.apply_updates(hparams, updates), estimate.info["state"], adam_state, record


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
    """By part: loss and accuracy."""

    def one(part):
        right = jnp.argmax(scores(params, part.x), axis=1) == part.y
        return cross_entropy(params, part), jnp.mean(right)

    return {name: one(getattr(task, name)) for name in ("support", "query", "test")}


def learn(params, task, rounds: int, report):
    """All decays at once: them, and the history."""
    hparams = {"log_decay": jax.tree.map(lambda p: jnp.full_like(p, np.log(START)), params)}
    carry, records = (hparams, begin(params), ADAM.init(hparams)), []
    for _ in range(rounds):
        *carry, record = round_(*carry, task)
        records.append(jax.tree.map(float, record))
        report(records[-1]["loss"])
    return carry[0]["log_decay"], records


def tune(params, task, size: Size):
    """The grid: decays, validation losses and the best one's parameters."""
    count = 3 * (size.rounds * GRADIENTS + size.steps) // size.steps
    grid, losses, best = np.linspace(np.log(1e-5), np.log(0.3), count), [], None
    for log_decay in grid:
        trained = full_training(jnp.float32(log_decay), params, task, size.steps)
        loss = float(judge(trained, task)["query"][0])
        best = trained if not losses or loss < min(losses) else best
        losses.append(loss if np.isfinite(loss) else np.inf)
    return grid, np.array(losses), best


class Cut(NamedTuple):
    """What one cut of the data gave: losses and accuracies by method and part, and the rest."""

    judged: dict
    seconds: dict
    history: dict
    grid: np.ndarray
    grid_loss: np.ndarray
    log_decay: list


def study_cut(key, size: Size, report) -> Cut:
    data_key, init_key = jax.random.split(key)
    task, params = sample(data_key), init(init_key, size.width)
    marks = [time.perf_counter()]
    decays, records = learn(params, task, size.rounds, report)
    learned = full_training(decays, params, task, size.steps)
    marks.append(time.perf_counter())
    grid, losses, tuned = tune(params, task, size)
    marks.append(time.perf_counter())
    union = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), task.support, task.query)
    best = jnp.float32(grid[np.argmin(losses)])
    trained = {
        NONE: full_training(jnp.float32(-np.inf), params, task, size.steps),
        SCALAR: tuned,
        OURS: learned,
        BOTH: full_training(best, params, task._replace(support=union), size.steps),
    }
    return Cut(
        {name: jax.tree.map(float, judge(each, task)) for name, each in trained.items()},
        {OURS: marks[1] - marks[0], SCALAR: marks[2] - marks[1]},
        {name: [record[name] for record in records] for name in records[0]},
        grid,
        losses,
        [np.asarray(layer["w"]) for layer in decays],
    )


def table_rows(cuts: list[Cut], size: Size):
    weights = (64 + size.width + 10) * size.width
    grid = len(cuts[0].grid)
    # Hyperparameters and training gradients a cut.
    counts = {
        NONE: (0, size.steps),
        SCALAR: (1, grid * size.steps),
        OURS: (weights + 2 * size.width + 10, size.rounds * GRADIENTS + size.steps),
        BOTH: (1, (grid + 1) * size.steps),
    }

    def values(name, part, which):
        return np.array([cut.judged[name][part][which] for cut in cuts])

    rows = []
    for name, (count, gradients) in counts.items():
        row = {"weight decay": name, "hyperparameters": count, "gradients a cut": gradients}
        row["s"] = sum(cut.seconds.get(name, 0.0) for cut in cuts) or None
        if name != BOTH:
            row["validation loss"] = mh.report.interval(values(name, "query", 0))
        row["test loss"] = mh.report.interval(values(name, "test", 0))
        row["test accuracy %"] = mh.report.interval(100 * values(name, "test", 1))
        if name != OURS:
            difference = values(name, "test", 0) - values(OURS, "test", 0)
            row["test loss minus ours"] = mh.report.interval(difference)
        rows.append(row)
    return rows


def study(size: Size = FULL, seed: int = 0, progress: bool = False):
    """Everything that the table and the picture show."""
    start = time.perf_counter()
    rounds = size.cuts * size.rounds
    with reporter(progress, "a million decays", rounds) as show:
        done = iter(range(1, rounds + 1))
        cuts = [
            study_cut(key, size, lambda loss: show(next(done), loss))
            for key in jax.random.split(jax.random.key(seed), size.cuts)
        ]
    first = cuts[0].log_decay
    arrays = {
        "history": {
            name: np.array([cut.history[name] for cut in cuts]) for name in cuts[0].history
        },
        "grid": cuts[0].grid,
        "grid_loss": np.array([cut.grid_loss for cut in cuts]),
        "log_decay": {f"layer{i}": layer.ravel()[:20000] for i, layer in enumerate(first)},
        "first_layer": first[0],
    }
    return table_rows(cuts, size), arrays, time.perf_counter() - start


def plot(rows, arrays, path: Path) -> None:
    """Learning curve beside the grid, the decays found, and those of the pixels."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    loss = arrays["history"]["loss"]
    left.plot(1 + np.arange(loss.shape[1]), loss.T, color="C0", alpha=0.4, linewidth=1)
    left.plot(1 + np.arange(loss.shape[1]), loss.mean(axis=0), color="C0", label="one a parameter")
    best = arrays["grid_loss"].min(axis=1).mean()
    left.axhline(best, color="C1", label="one for all, best of the grid")
    left.set(xlabel="hypergradient step", ylabel="validation loss", yscale="log")
    left.legend(frameon=False, fontsize=8)
    for i, decays in enumerate(arrays["log_decay"].values()):
        label = f"weights of layer {i + 1}"
        bins = np.linspace(-7, 1, 60)
        middle.hist(decays / np.log(10), bins, histtype="step", density=True, label=label)
    middle.axvline(np.log10(START), color="0.4", linestyle="--", linewidth=0.8, label="start")
    middle.set(xlabel="log10 weight decay, first cut", ylabel="density")
    middle.legend(frameon=False, fontsize=8)
    pixels = arrays["first_layer"].mean(axis=1).reshape(8, 8) / np.log(10)
    figure.colorbar(right.imshow(pixels, cmap="viridis"), label="mean log10 weight decay")
    right.set(title="of the first layer, by pixel", xticks=[], yticks=[])
    for axes in (left, middle):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/million"))
    parser.add_argument("--quick", action="store_true", help="2 cuts, a network of width 32")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    rows, arrays, seconds = study(size, progress=True)
    mh.report.print_table(rows, formats={"s": ".0f"})
    out = arguments.out
    settings = {**size._asdict(), "terms": TERMS, "rate": RATE, "seconds": round(seconds, 1)}
    mh.report.save_json(out / "results.json", {"settings": settings, "rows": rows})
    mh.report.save_npz(out / "arrays.npz", arrays)
    try:
        plot(rows, arrays, out / "million.png")
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'metahpo[plot]')")


if __name__ == "__main__":
    main()
