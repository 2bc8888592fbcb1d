"""The regulariser of a logistic regression, by right and by wrong hypergradients.

Trained weights depend on the regulariser, theta = theta(lambda), and all of a regulariser's effect
on the validation loss goes through them.  A mistake that circulates in tutorials is to train, and
then to differentiate at fixed weights, as if d theta / d lambda = 0.  The validation loss then has
the gradient zero and lambda stays where it is; and where the penalty is left in the outer loss,
its gradient |theta|^2 / 2 > 0 drives lambda to nothing, on any data.

Wisconsin breast cancer data, 569 x 30, cut into 60 training, 254 validation and 255 test rows;
L2-regularised logistic regression fitted by 25 damped Newton steps; Adam on log10 lambda from
1e-4 and from 10.  The hypergradients by reverse mode and by the implicit function theorem (CG)
stand beside the closed form -lambda g' H^-1 theta, solved densely by numpy after a
fit by numpy alone, and what they find beside a grid of 201 values.  Means and 95 % intervals are
over 10 random cuts, in double precision.  About 25 seconds on 2 cores.

    python -m experiments.logistic_regression [--out results/logistic_regression] [--quick]
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

TRAIN, VALIDATION = 60, 254
NEWTON_STEPS = 25
HALVINGS = 0.5 ** np.arange(8)  # of a Newton step, the best is taken
STARTS = (-4.0, 1.0)  # log10 lambda
RIGHT = ("reverse", "implicit")
WRONG = ("fixed weights", "fixed weights, penalty in the loss")
CHUNK = 25


class Size(NamedTuple):
    """How much is computed."""

    cuts: int = 10
    rounds: int = 150
    grid: int = 201


FULL = Size()
QUICK = Size(cuts=3, rounds=50, grid=51)


class Part(NamedTuple):
    """Features f[n, 31], the last one constant, and labels f[n] of 0 and 1."""

    x: jax.Array
    y: jax.Array


class Task(NamedTuple):
    """One cut of the data."""

    support: Part
    query: Part
    test: Part


@cache
def rows() -> Part:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return Part(data.data, data.target.astype(float))


def sample(key) -> Task:
    """A random cut; the training part's mean and spread standardise all parts."""
    data = rows()
    order = jax.random.permutation(key, len(data.y))
    x, y = jnp.asarray(data.x)[order], jnp.asarray(data.y)[order]
    x = (x - x[:TRAIN].mean(axis=0)) / x[:TRAIN].std(axis=0)
    x = jnp.concatenate([x, jnp.ones((len(y), 1))], axis=1)
    cuts = (slice(TRAIN), slice(TRAIN, TRAIN + VALIDATION), slice(TRAIN + VALIDATION, None))
    return Task(*(Part(x[cut], y[cut]) for cut in cuts))


def data_loss(weights, part: Part):
    return jnp.mean(optax.sigmoid_binary_cross_entropy(part.x @ weights, part.y))


def penalty(hparams, weights):
    """Half of lambda times the squared norm, without the constant's weight."""
    return 10.0 ** hparams["log10_l2"] * jnp.sum(weights[:-1] ** 2) / 2


def training_loss(hparams, task, weights):
    return data_loss(weights, task.support) + penalty(hparams, weights)


def regression_problem() -> mh.Problem:
    """Newton's method on the regularised training loss, judged by the validation loss."""

    def step(key, hparams, task, weights):
        del key
        (x, y), l2 = task.support, 10.0 ** hparams["log10_l2"]
        p = jax.nn.sigmoid(x @ weights)
        shrink = l2 * jnp.ones_like(weights).at[-1].set(0.0)
        gradient = x.T @ (p - y) / len(y) + shrink * weights
        hessian = (x.T * (p * (1 - p))) @ x / len(y) + jnp.diag(shrink)
        moves = -HALVINGS[:, None] * jnp.linalg.solve(hessian, gradient)
        after = jax.vmap(lambda move: training_loss(hparams, task, weights + move))(moves)
        return weights + moves[jnp.argmin(after)]

    return mh.Problem(
        sample=sample,
        init=lambda key, hparams, task: jnp.zeros(task.support.x.shape[1]),
        step=step,
        loss=lambda key, hparams, task, weights: data_loss(weights, task.query),
        describe=lambda task: jnp.zeros(0),
    )


def estimators() -> dict[str, mh.Estimator]:
    """Two right hypergradients, and the mistake with either outer loss."""
    problem = regression_problem()

    def at_fixed_weights(extra):
        def loss(key, hparams, task, weights):
            weights = jax.lax.stop_gradient(weights)
            return problem.loss(key, hparams, task, weights) + extra(hparams, weights)

        return mh.hypergrad.reverse(problem._replace(loss=loss), NEWTON_STEPS)

    return {
        "reverse": mh.hypergrad.reverse(problem, NEWTON_STEPS),
        "implicit": mh.hypergrad.implicit(
            problem, NEWTON_STEPS, solver="cg", inner_loss=training_loss
        ),
        "fixed weights": at_fixed_weights(lambda hparams, weights: 0.0),
        "fixed weights, penalty in the loss": at_fixed_weights(penalty),
    }


def closed_form(task, log10_l2: float) -> float:
    """d validation loss / d log10 lambda, by numpy alone and with a dense solve."""
    (x, y), (xv, yv) = (map(np.asarray, part) for part in (task.support, task.query))
    penalised = np.diag([*np.ones(x.shape[1] - 1), 0.0])
    l2 = 10.0**log10_l2

    def loss(w):
        return np.mean(np.logaddexp(0, x @ w) - y * (x @ w)) + l2 * w @ penalised @ w / 2

    weights, size = np.zeros(x.shape[1]), np.inf
    while size > 1e-13:  # Newton's method with halved steps, until nothing moves any more
        p = 1 / (1 + np.exp(-x @ weights))
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(y) + l2 * penalised
        move = np.linalg.solve(hessian, x.T @ (p - y) / len(y) + l2 * penalised @ weights)
        while loss(weights - move) > loss(weights) + 1e-14:
            move = move / 2
        weights, size = weights - move, np.linalg.norm(move) / np.linalg.norm(weights - move)
    slope = xv.T @ (1 / (1 + np.exp(-xv @ weights)) - yv) / len(yv)
    return float(-np.log(10) * l2 * slope @ np.linalg.solve(hessian, penalised @ weights))


def descend(estimator: mh.Estimator, tasks, size: Size, report):
    """Adam from both starts on all cuts: path f[rounds + 1, cuts, 2] and first gradients."""
    adam = optax.adam(optax.cosine_decay_schedule(0.2, size.rounds))
    key = jax.random.key(0)  # nothing in the training is random

    def gradient(hparams, task):
        return estimator.estimate(key, hparams, task, ())[0].grad

    over_starts = jax.vmap(jax.vmap(gradient, in_axes=(0, None)))

    @jax.jit
    def chunk(carry):
        def round_(carry, _):
            hparams, state = carry
            updates, state = adam.update(over_starts(hparams, tasks), state)
            hparams = optax.apply_updates(hparams, updates)
            return (hparams, state), hparams["log10_l2"]

        return jax.lax.scan(round_, carry, length=CHUNK)

    count = len(tasks.support.y)
    hparams = {"log10_l2": jnp.tile(jnp.array(STARTS), (count, 1))}
    first = jax.jit(over_starts)(hparams, tasks)["log10_l2"]
    carry, path = (hparams, adam.init(hparams)), [hparams["log10_l2"][None]]
    for _ in range(0, size.rounds, CHUNK):
        carry, part = chunk(carry)
        path.append(part)
        report()
    return np.concatenate(path), np.asarray(first)


def study(size: Size = FULL, seed: int = 0, progress: bool = False):
    """Everything that the table and the picture show."""
    begin = time.perf_counter()
    with jax.enable_x64(True):
        rows_, arrays = _study(size, seed, progress)
    return rows_, arrays, time.perf_counter() - begin


def _study(size: Size, seed: int, progress: bool):
    tasks = jax.vmap(sample)(jax.random.split(jax.random.key(seed), size.cuts))
    train = mh.inner.unroll(regression_problem(), NEWTON_STEPS)

    def both(log10_l2, task):
        weights = train(jax.random.key(0), {"log10_l2": log10_l2}, task)
        return data_loss(weights, task.query), data_loss(weights, task.test)

    # f[2, cuts, points]
    losses = jax.jit(jax.vmap(jax.vmap(both, in_axes=(0, None))))
    grid = np.linspace(-8.0, 2.0, size.grid)
    surface = np.stack(losses(jnp.tile(grid, (size.cuts, 1)), tasks))
    best = surface[0].min(axis=1)
    chosen = surface[0].argmin(axis=1)
    truth = np.array(
        [
            [closed_form(jax.tree.map(lambda a, i=i: a[i], tasks), start) for start in STARTS]
            for i in range(size.cuts)
        ]
    )
    table, arrays = [], {"grid": grid, "surface": surface, "closed_form": truth}
    methods = estimators()
    chunks = len(methods) * len(range(0, size.rounds, CHUNK))
    interval = mh.report.interval
    with reporter(progress, "logistic regression", chunks) as report:
        done = iter(range(1, chunks + 1))
        for method, estimator in methods.items():
            path, first = descend(estimator, tasks, size, lambda: report(next(done), best.mean()))
            arrays[f"path.{method}"], arrays[f"first.{method}"] = path, first
            found = np.stack(losses(jnp.asarray(path[-1]), tasks))  # f[2, cuts, starts]
            for i, start in enumerate(STARTS):
                table.append(
                    {
                        "gradient": method,
                        "start": f"1e{start:+.0f}",
                        "at the start": interval(first[:, i]),
                        "error": float(np.max(np.abs(first - truth)[:, i] / np.abs(truth)[:, i])),
                        "log10 l2 found": interval(path[-1][:, i]),
                        "validation loss": interval(found[0][:, i]),
                        "above the grid's": interval(found[0][:, i] - best),
                        "test loss": interval(found[1][:, i]),
                    }
                )
    picks = (np.arange(size.cuts), chosen)
    table.append(
        {
            "gradient": f"grid of {size.grid}",
            "log10 l2 found": interval(grid[chosen]),
            "validation loss": interval(best),
            "test loss": interval(surface[1][picks]),
        }
    )
    return table, arrays


def plot(arrays, path: Path) -> None:
    """The truth on one cut with the descents' ends, and all descents; needs matplotlib."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    grid, surface = arrays["grid"], arrays["surface"][0, 0]
    left.plot(grid, surface, color="0.3", label="validation loss of the fit")
    colors = dict(zip((*RIGHT, *WRONG), ("C0", "C2", "C1", "C3"), strict=True))
    styles = dict(zip((*RIGHT, *WRONG), ("o", "x", "s", "v"), strict=True))
    for method, color in colors.items():
        descent = arrays[f"path.{method}"]  # f[rounds + 1, cuts, starts]
        ends = descent[-1, 0]
        inside = np.clip(ends, grid[0], grid[-1])
        left.plot(
            inside,
            np.interp(inside, grid, surface),
            styles[method],
            color=color,
            markersize=9 if method == "reverse" else 7,
            fillstyle="none",
            markeredgewidth=2,
            label=method,
        )
        dash = "--" if method == "implicit" else "-"
        for i in range(len(STARTS)):
            right.plot(descent[:, :, i], color=color, linestyle=dash, alpha=0.25, linewidth=0.8)
            label = method if i == 0 else None
            mean = descent[:, :, i].mean(axis=1)
            right.plot(mean, color=color, linestyle=dash, linewidth=2, label=label)
    left.set(xlabel="log10 lambda", ylabel="validation loss, first cut", yscale="log")
    left.legend(frameon=False, fontsize=8, title="ends of the descents", title_fontsize=8)
    right.set(xlabel="hypergradient step", ylabel="log10 lambda, all cuts")
    right.legend(frameon=False, fontsize=8, loc="center right", bbox_to_anchor=(1, 0.8))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/logistic_regression"))
    parser.add_argument("--quick", action="store_true", help="3 cuts and 50 rounds")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    table, arrays, seconds = study(size, progress=True)
    mh.report.print_table(table, formats={"error": ".0e"})
    out = arguments.out
    settings = {**size._asdict(), "newton_steps": NEWTON_STEPS, "seconds": round(seconds, 1)}
    mh.report.save_json(out / "results.json", {"settings": settings, "rows": table})
    mh.report.save_npz(out / "arrays.npz", arrays)
    try:
        plot(arrays, out / "logistic_regression.png")
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'metahpo[plot]')")


if __name__ == "__main__":
    main()
