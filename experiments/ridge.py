"""Log learning rate and log regulariser of a linear regression, learned by hypergradient.

1,000 x 10 Gaussian features, noise 0.5, 20 steps of gradient descent on one half of the rows,
validation loss on the other half.  Two hyperparameters are few enough for a fine grid, so what
the hypergradient finds can be checked.  Both stand in the table, and in the picture the path of
the descent over the grid.

    python -m experiments.ridge [--out results/ridge]
"""

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh

STEPS, ROUNDS = 20, 200
START = {"log_lr": -4.0, "log_l2": 0.0}
RATES, L2S = np.linspace(-6.0, 0.5, 261), np.linspace(-10.0, 1.0, 221)


class Rows(NamedTuple):
    """Features f[n, 10] and targets f[n] of the two halves."""

    support: tuple[jax.Array, jax.Array]
    query: tuple[jax.Array, jax.Array]


def linear_regression(rows: int = 1000, features: int = 10, noise: float = 0.5):
    """Tasks of random features and weights; the loss is half the mean squared error."""

    def sample(key):
        x_key, w_key, noise_key = jax.random.split(key, 3)
        x = jax.random.normal(x_key, (rows, features))
        y = x @ jax.random.normal(w_key, (features,)) + noise * jax.random.normal(
            noise_key, (rows,)
        )
        half = rows // 2
        return Rows((x[:half], y[:half]), (x[half:], y[half:]))

    def loss(w, task, split):
        x, y = getattr(task, split)
        return jnp.mean((x @ w - y) ** 2) / 2

    return mh.TaskFamily(
        sample=sample,
        init=lambda key, task: jnp.zeros(features),
        loss=loss,
        describe=lambda task: jnp.var(task.support[1])[None],
    )


def regression_problem():
    """Gradient descent with weight decay ``l2 |w|^2 / 2`` added to the support loss."""

    def optimizer(hparams):
        decay = optax.add_decayed_weights(jnp.exp(hparams["log_l2"]))
        return optax.chain(decay, optax.sgd(jnp.exp(hparams["log_lr"])))

    return mh.problems.training(linear_regression(), optimizer)


def learn(problem, task, key):
    """Adam on both hyperparameters; returns them and the history of points and losses."""
    estimator = mh.hypergrad.reverse(problem, steps=STEPS)
    # The loss falls from 3 to 0.13, so a short memory: with Adam's b2 = 0.999 the first gradients
    # alone would set the step size for all of the 200 rounds.
    adam = optax.adam(optax.cosine_decay_schedule(0.1, ROUNDS), b2=0.9)

    def round_(carry, _):
        hparams, state = carry
        estimate, _ = estimator.estimate(key, hparams, task, ())
        updates, state = adam.update(estimate.grad, state)
        return (optax.apply_updates(hparams, updates), state), (hparams, estimate.loss)

    start = jax.tree.map(jnp.asarray, START)
    (hparams, _), history = jax.lax.scan(round_, (start, adam.init(start)), length=ROUNDS)
    return hparams, history


def fine_grid(problem, task, key):
    """Validation losses f[rates, l2s]; infinite where training diverged."""
    loss = mh.inner.outer_loss(problem, STEPS)

    def at(log_lr, log_l2):
        return loss(key, {"log_lr": log_lr, "log_l2": log_l2}, task)[0]

    over_l2 = jax.vmap(at, in_axes=(None, 0))
    losses = jax.lax.map(lambda rate: over_l2(rate, jnp.asarray(L2S)), jnp.asarray(RATES))
    return jnp.where(jnp.isfinite(losses), losses, jnp.inf)


def study(seed: int = 0):
    """Everything that the table and the picture show."""
    data_key, key = jax.random.split(jax.random.key(seed))
    problem = regression_problem()
    task = problem.sample(data_key)
    final_loss = jax.jit(mh.inner.outer_loss(problem, STEPS))
    begin = time.perf_counter()
    learned, (path, losses) = jax.block_until_ready(
        jax.jit(learn, static_argnums=0)(problem, task, key)
    )
    middle = time.perf_counter()
    grid = jax.block_until_ready(jax.jit(fine_grid, static_argnums=0)(problem, task, key))
    end = time.perf_counter()
    i, j = np.unravel_index(np.argmin(grid), grid.shape)

    def row(method, hparams, trainings, seconds):
        numbers = {name: float(value) for name, value in hparams.items()}
        loss = float(final_loss(key, jax.tree.map(jnp.asarray, numbers), task)[0])
        return {
            "method": method,
            **numbers,
            "loss": loss,
            "trainings": trainings,
            "seconds": seconds,
        }

    best = {"log_lr": RATES[i], "log_l2": L2S[j]}
    rows = [
        row("start", START, 0, 0.0),
        row("hypergradient", learned, ROUNDS, middle - begin),
        row("fine grid", best, grid.size, end - middle),
    ]
    return rows, {"grid": grid, "path_loss": losses, **path}


def table(rows) -> str:
    """The rows as fixed-width text."""
    lines = [f"{'':14}{'log lr':>9}{'log l2':>9}{'validation loss':>17}{'trainings':>11}{'s':>7}"]
    for row in rows:
        lines.append(
            f"{row['method']:14}{row['log_lr']:9.3f}{row['log_l2']:9.3f}{row['loss']:17.6f}"
            f"{row['trainings']:11d}{row['seconds']:7.2f}"
        )
    return "\n".join(lines)


def plot(rows, arrays, path: Path) -> None:
    """The path of the descent over the grid of losses; needs matplotlib."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    excess = np.log10(np.maximum(np.asarray(arrays["grid"]) - np.min(arrays["grid"]), 1e-6))
    mesh = axes.pcolormesh(RATES, L2S, np.minimum(excess, 1.0).T, shading="nearest")
    figure.colorbar(mesh, label="log10(validation loss - best)")
    axes.plot(arrays["log_lr"], arrays["log_l2"], "w.-", markersize=3, label="hypergradient")
    axes.plot(rows[2]["log_lr"], rows[2]["log_l2"], "r+", markersize=12, label="best of the grid")
    axes.set(xlabel="log learning rate", ylabel="log regulariser")
    axes.legend(loc="lower left", labelcolor="black")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/ridge"))
    out = parser.parse_args().out
    rows, arrays = study()
    print(table(rows))
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    np.savez(out / "arrays.npz", **jax.tree.map(np.asarray, arrays), rates=RATES, l2s=L2S)
    try:
        plot(rows, arrays, out / "path.png")
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'metahpo[plot]')")


if __name__ == "__main__":
    main()
