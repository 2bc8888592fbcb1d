"""Log learning rate and log regulariser of a linear regression, learned by hypergradient.

1,000 x 10 Gaussian features, noise 0.5, 20 steps of gradient descent on one half of the rows,
validation loss on the other half.  Two hyperparameters are few enough for a fine grid, so what
the hypergradient finds can be checked.  Both stand in the table, and in the picture the path of
the descent over the grid.

    python -m experiments.ridge [--quick] [--resume]
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo.problems import Episode, Examples
from metahpo.study import Findings, Work, command, panels, timed

STEPS = 20
START = {"log_lr": -4.0, "log_l2": 0.0}


class Size(NamedTuple):
    """How much is computed: updates, and the grid's log rates and log regularisers."""

    rounds: int = 200
    rates: int = 261
    l2s: int = 221


QUICK = Size(rounds=40, rates=27, l2s=23)


def linear_regression(rows: int = 1000, features: int = 10, noise: float = 0.5):
    """Tasks of random features and weights; the loss is half the mean squared error."""

    def sample(key):
        x_key, w_key, noise_key = jax.random.split(key, 3)
        x = jax.random.normal(x_key, (rows, features))
        y = x @ jax.random.normal(w_key, (features,))
        y += noise * jax.random.normal(noise_key, (rows,))
        half = rows // 2
        return Episode(Examples(x[:half], y[:half]), Examples(x[half:], y[half:]))

    def loss(w, task, split):
        x, y = getattr(task, split)
        return jnp.mean((x @ w - y) ** 2) / 2

    return mh.TaskFamily(sample, lambda key, task: jnp.zeros(features), loss)


def regression_problem():
    """Gradient descent with weight decay ``l2 |w|^2 / 2`` added to the support loss."""

    def optimizer(hparams):
        decay = optax.add_decayed_weights(jnp.exp(hparams["log_l2"]))
        return optax.chain(decay, optax.sgd(jnp.exp(hparams["log_lr"])))

    return mh.problems.training(linear_regression(), optimizer)


def learn(problem, rounds: int, key, task):
    """Adam on both hyperparameters: them, and the history of points and losses."""
    estimator = mh.hypergrad.reverse(problem, steps=STEPS)
    # The loss falls from 3 to 0.13, so a short memory: with Adam's b2 = 0.999 the first gradients
    # alone would set the step size for all of the rounds.
    adam = optax.adam(optax.cosine_decay_schedule(0.1, rounds), b2=0.9)

    def step(carry, _):
        hparams, state = carry
        estimate, _ = estimator.estimate(key, hparams, task, ())
        updates, state = adam.update(estimate.grad, state)
        return (optax.apply_updates(hparams, updates), state), (hparams, estimate.loss)

    start = jax.tree.map(jnp.asarray, START)
    (hparams, _), history = jax.lax.scan(step, (start, adam.init(start)), length=rounds)
    return hparams, history


def fine_grid(problem, rates, l2s, key, task):
    """Validation losses f[rates, l2s]; infinite where training diverged."""
    loss = mh.inner.outer_loss(problem, STEPS)

    def at(log_lr, log_l2):
        return loss(key, {"log_lr": log_lr, "log_l2": log_l2}, task)[0]

    over_l2 = jax.vmap(at, in_axes=(None, 0))
    losses = jax.lax.map(lambda rate: over_l2(rate, jnp.asarray(l2s)), jnp.asarray(rates))
    return jnp.where(jnp.isfinite(losses), losses, jnp.inf)


def study(size: Size, work: Work) -> Findings:
    del work  # it is all over in seconds
    data_key, key = jax.random.split(jax.random.key(0))
    problem = regression_problem()
    task = problem.sample(data_key)
    final_loss = jax.jit(mh.inner.outer_loss(problem, STEPS))
    rates, l2s = np.linspace(-6.0, 0.5, size.rates), np.linspace(-10.0, 1.0, size.l2s)

    descend = partial(learn, problem, size.rounds)
    (learned, (path, losses)), *descent_seconds = timed(descend, key, task)
    grid, *grid_seconds = timed(partial(fine_grid, problem, rates, l2s), key, task)
    i, j = np.unravel_index(np.argmin(grid), grid.shape)

    def row(method, hparams, trainings, seconds):
        numbers = {name: float(value) for name, value in hparams.items()}
        loss = float(final_loss(key, jax.tree.map(jnp.asarray, numbers), task)[0])
        row = {"method": method, **numbers, "loss": loss}
        return row | {"trainings": trainings, "seconds": seconds}

    rows = [
        row("start", START, 0, 0.0),
        row("hypergradient", learned, size.rounds, sum(descent_seconds)),
        row("fine grid", {"log_lr": rates[i], "log_l2": l2s[j]}, grid.size, sum(grid_seconds)),
    ]
    arrays = {"grid": grid, "path_loss": losses, **path, "rates": rates, "l2s": l2s}
    return Findings(
        rows,
        formats={"log_lr": ".3f", "log_l2": ".3f", "loss": ".6f", "seconds": ".2f"},
        arrays=arrays,
        pictures={"path.png": lambda path: plot(rows, arrays, path)},
    )


def plot(rows, arrays, path) -> None:
    """The path of the descent over the grid of losses."""
    excess = np.log10(np.maximum(np.asarray(arrays["grid"]) - np.min(arrays["grid"]), 1e-6))
    with panels(path, size=(6, 4)) as axes:
        mesh = axes.pcolormesh(
            arrays["rates"], arrays["l2s"], np.minimum(excess, 1.0).T, shading="nearest"
        )
        axes.figure.colorbar(mesh, label="log10(validation loss - best)")
        axes.plot(arrays["log_lr"], arrays["log_l2"], "w.-", markersize=3, label="hypergradient")
        best = rows[2]["log_lr"], rows[2]["log_l2"]
        axes.plot(*best, "r+", markersize=12, label="best of the grid")
        axes.set(xlabel="log learning rate", ylabel="log regulariser")
        axes.legend(loc="lower left", frameon=True)


if __name__ == "__main__":
    command("experiments.ridge", __doc__, study, Size(), QUICK)
