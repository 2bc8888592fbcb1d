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

    python -m experiments.logistic_regression [--quick] [--resume]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_breast_cancer

import metahpo as mh
from metahpo.problems import Examples, Split, split
from metahpo.report import interval
from metahpo.report.plots import COLORS
from metahpo.study import Findings, Work, column, command, draw_intervals, panels

TRAIN, VALIDATION = 60, 254
NEWTON_STEPS = 25
HALVINGS = 0.5 ** np.arange(8)  # of a Newton step, the best is taken
STARTS = (-4.0, 1.0)  # log10 lambda
RIGHT = ("reverse", "implicit")
WRONG = ("fixed weights", "fixed weights, penalty in the loss")


class Size(NamedTuple):
    """How much is computed."""

    cuts: int = 10
    rounds: int = 150
    grid: int = 201


QUICK = Size(cuts=3, rounds=50, grid=51)


def sample(key) -> Split:
    """A random cut; the training part's mean and spread standardise all parts.

    Features f[n, 31], the last one constant, and labels f[n] of 0 and 1.
    """
    data = load_breast_cancer()
    order = jax.random.permutation(key, len(data.target))
    x, y = jnp.asarray(data.data)[order], jnp.asarray(data.target, float)[order]
    x = (x - x[:TRAIN].mean(axis=0)) / x[:TRAIN].std(axis=0)
    x = jnp.concatenate([x, jnp.ones((len(y), 1))], axis=1)
    return split(x, y, TRAIN, VALIDATION)


def data_loss(weights, part: Examples):
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
        # The longest that is as good as the best: at the minimum rounding decides which one is, and
        # derivatives go on converging only by whole steps.
        near = after.min() + 8 * jnp.finfo(after.dtype).eps * jnp.abs(after.min())
        return weights + moves[jnp.argmax(after <= near)]

    return mh.Problem(
        sample=sample,
        init=lambda key, hparams, task: jnp.zeros(task.support.x.shape[1]),
        step=step,
        loss=lambda key, hparams, task, weights: data_loss(weights, task.query),
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


def descend(estimator: mh.Estimator, tasks, size: Size, work: Work, name: str):
    """Adam from both starts on all cuts: path f[rounds + 1, cuts, 2] and first gradients."""
    adam = optax.adam(optax.cosine_decay_schedule(0.2, size.rounds))
    start = {"log10_l2": jnp.tile(jnp.array(STARTS), (len(tasks.support.y), 1))}

    def gradient(key, hparams, task):
        return estimator.estimate(key, hparams, task, ())[0].grad

    over_starts = jax.vmap(jax.vmap(gradient, in_axes=(None, 0, None)), in_axes=(None, 0, 0))

    def step(key, carry):
        hparams, state = carry
        updates, state = adam.update(over_starts(key, hparams, tasks), state)
        hparams = optax.apply_updates(hparams, updates)
        return (hparams, state), hparams["log10_l2"]

    loop = mh.run.Loop(
        init=lambda key: (start, adam.init(start)),
        step=step,
        finish=lambda carry, path: path,
        rounds=size.rounds,
    )
    key = jax.random.key(0)  # nothing in the training is random
    first = jax.jit(over_starts)(key, start, tasks)["log10_l2"]
    path = mh.run.drive(loop, key, progress=work.shown, name=name)
    return np.concatenate([start["log10_l2"][None], path]), np.asarray(first)


def study(size: Size, work: Work) -> Findings:
    with jax.enable_x64(True):
        rows, arrays = measure(size, work)
    return Findings(
        rows,
        formats={"error": ".0e"},
        settings={"newton_steps": NEWTON_STEPS, "seconds": work.seconds},
        arrays=arrays,
    )


def measure(size: Size, work: Work):
    tasks = jax.vmap(sample)(jax.random.split(jax.random.key(0), size.cuts))
    train = mh.inner.unroll(regression_problem(), NEWTON_STEPS)

    def both(log10_l2, task):
        weights = train(jax.random.key(0), {"log10_l2": log10_l2}, task)
        return data_loss(weights, task.query), data_loss(weights, task.test)

    # f[2, cuts, points]
    losses = jax.jit(jax.vmap(jax.vmap(both, in_axes=(0, None))))
    grid = np.linspace(-8.0, 2.0, size.grid)
    surface = np.stack(losses(jnp.tile(grid, (size.cuts, 1)), tasks))
    best, chosen = surface[0].min(axis=1), surface[0].argmin(axis=1)
    each = [jax.tree.map(lambda a, i=i: a[i], tasks) for i in range(size.cuts)]
    truth = np.array([[closed_form(task, start) for start in STARTS] for task in each])
    rows, arrays = [], {"grid": grid, "surface": surface, "closed_form": truth}
    for method, estimator in estimators().items():
        path, first = descend(estimator, tasks, size, work, method)
        arrays[f"path.{method}"], arrays[f"first.{method}"] = path, first
        found = np.stack(losses(jnp.asarray(path[-1]), tasks))  # f[2, cuts, starts]
        for i, start in enumerate(STARTS):
            row = {"gradient": method, "start": f"1e{start:+.0f}"}
            row["at the start"] = interval(first[:, i])
            row["error"] = float(np.max(np.abs(first - truth)[:, i] / np.abs(truth)[:, i]))
            row |= judged(path[-1][:, i], *found[:, :, i])
            rows.append(row | {"above the grid's": interval(found[0][:, i] - best)})
    of_grid = judged(grid[chosen], best, surface[1][np.arange(size.cuts), chosen])
    return [*rows, {"gradient": f"grid of {size.grid}", **of_grid}], arrays


def judged(log10_l2, validation, test):
    columns = {"log10 l2 found": log10_l2, "validation loss": validation, "test loss": test}
    return {name: interval(values) for name, values in columns.items()}


def plot(results, path) -> None:
    """Where every descent begins and ends, and its validation loss."""
    *rows, grid = results["rows"]
    found, best = [row["log10 l2 found"] for row in rows], grid["log10 l2 found"]["mean"]
    away = [
        (row["gradient"] in RIGHT, abs(l2["mean"] - best))
        for row, l2 in zip(rows, found, strict=True)
    ]
    title = (
        f"Right hypergradients end within {max(x for right, x in away if right):.1g} decades of "
        "the grid's best regulariser, wrong ones "
        f"{min(x for right, x in away if not right):.1f} or more away"
    )
    with panels(path, 1, 2, size=(8, 3.6), title=title, sharey=True) as axes:
        for start, shift, color in (("1e-4", -0.15, COLORS[0]), ("1e+1", 0.15, COLORS[1])):
            own = [row for row in rows if row["start"] == start]
            for axis, name in zip(axes, ("log10 l2 found", "validation loss"), strict=True):
                cells = column(own, name, "gradient")
                cells = {name.replace(", ", ",\n"): cell for name, cell in cells.items()}
                draw_intervals(axis, cells, shift=shift, color=color)
            begin = np.log10(float(start))
            for line, row in enumerate(own):
                end, height = row["log10 l2 found"]["mean"], line + shift
                axes[0].plot(begin, height, "o", color=color, fillstyle="none")
                if abs(end - begin) > 0.5:
                    arrow = {"arrowstyle": "->", "color": color, "shrinkA": 4, "shrinkB": 4}
                    axes[0].annotate("", (end, height), (begin, height), arrowprops=arrow)
            axes[0].annotate(
                f"from {float(start):g}",
                (begin, -0.3),
                (0, 4),
                textcoords="offset points",
                ha="center",
                color=color,
            )
        axes[0].axvline(best, color="0.6", linestyle="--", linewidth=0.8, zorder=0)
        axes[0].annotate(
            "grid's best", (best, 3.45), (4, 0), textcoords="offset points", color="0.4"
        )
        axes[0].set(xlabel="log10 lambda, start and end", ylim=(3.6, -0.8))
        axes[1].set(xlabel="validation loss at the end, 95 % intervals", xlim=(0, None))


PICTURES = {"logistic_regression.png": plot}


if __name__ == "__main__":
    command("experiments.logistic_regression", __doc__, study, Size(), QUICK, PICTURES)
