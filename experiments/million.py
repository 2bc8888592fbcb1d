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


def tune(params, task, size: Size, report):
    """The grid: decays, validation losses and the best one's parameters."""
    count = 3 * (size.rounds * GRADIENTS + size.steps) // size.steps
    grid, losses, best = np.linspace(np.log(1e-5), np.log(0.3), count), [], None
    for log_decay in grid:
        trained = full_training(jnp.float32(log_decay), params, task, size.steps)
        loss = float(judge(trained, task)["query"][0])
        best = trained if not losses or loss < min(losses) else best
        losses.append(loss if np.isfinite(loss) else np.inf)
        report(min(losses))
    return grid, np.array(losses), best


def study(size: Size = FULL, seed: int = 0, progress: bool = False):
    """Everything that the table and the picture show."""
    start = time.perf_counter()
    methods = (NONE, SCALAR, OURS, BOTH)
    judged, seconds = {name: [] for name in methods}, dict.fromkeys(methods, 0.0)
    histories, grids, layers = [], [], []
    with reporter(progress, "a million decays", size.cuts * size.rounds) as show:
        for cut, key in enumerate(jax.random.split(jax.random.key(seed), size.cuts)):
            data_key, init_key = jax.random.split(key)
            task, params = sample(data_key), init(init_key, size.width)
            done = iter(range(cut * size.rounds + 1, (cut + 1) * size.rounds + 1))
            marks = [time.perf_counter()]
            decays, records = learn(
                params, task, size.rounds, lambda loss, done=done: show(next(done), loss)
            )
            learned = full_training(decays, params, task, size.steps)
            judged[OURS].append(jax.tree.map(float, judge(learned, task)))
            marks.append(time.perf_counter())
            grid, losses, tuned = tune(params, task, size, lambda loss: None)
            judged[SCALAR].append(jax.tree.map(float, judge(tuned, task)))
            marks.append(time.perf_counter())
            plain = full_training(jnp.float32(-np.inf), params, task, size.steps)
            judged[NONE].append(jax.tree.map(float, judge(plain, task)))
            union = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), task.support, task.query)
            everything = task._replace(support=union)
            best = jnp.float32(grid[np.argmin(losses)])
            taught = full_training(best, params, everything, size.steps)
            judged[BOTH].append(jax.tree.map(float, judge(taught, task)))
            seconds[OURS] += marks[1] - marks[0]
            seconds[SCALAR] += marks[2] - marks[1]
            histories.append({name: [r[name] for r in records] for name in records[0]})
            grids.append(losses)
            layers.append([np.asarray(layer["w"]) for layer in decays])
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    hyper = {NONE: 0, SCALAR: 1, OURS: count, BOTH: 1}
    gradients = {
        NONE: size.steps,
        SCALAR: len(grid) * size.steps,
        OURS: size.rounds * GRADIENTS + size.steps,
        BOTH: (len(grid) + 1) * size.steps,
    }
    rows = []
    for name, cuts in judged.items():
        part = {
            key: np.array([[cut[key][i] for cut in cuts] for i in range(2)])
            for key in ("query", "test")
        }
        ours = np.array([[cut["test"][i] for cut in judged[OURS]] for i in range(2)])
        row = {
            "weight decay": name,
            "hyperparameters": hyper[name],
            "gradients a cut": gradients[name],
            "s": seconds[name] or None,
            "validation loss": None if name == BOTH else mh.report.interval(part["query"][0]),
            "test loss": mh.report.interval(part["test"][0]),
            "test accuracy %": mh.report.interval(100 * part["test"][1]),
        }
        if name != OURS:
            row["test loss minus ours"] = mh.report.interval(part["test"][0] - ours[0])
        rows.append(row)
    arrays = {
        "history": {name: np.array([h[name] for h in histories]) for name in histories[0]},
        "grid": grid,
        "grid_loss": np.array(grids),
        "log_decay": {f"layer{i}": layers[0][i].ravel()[:20000] for i in range(3)},
        "first_layer": layers[0][0],
    }
    return rows, arrays, time.perf_counter() - start


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
