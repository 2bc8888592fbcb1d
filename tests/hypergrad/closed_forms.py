"""Problems whose hypergradients are known, and the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo.base import Problem


def scalar_dynamics() -> Problem:
    """``w <- w - lr a w`` from ``start``; outer loss ``w^2 / 2``; the task is the curvature ``a``.

    The hyperparameter ``power`` is a whole number that multiplies the loss by one.
    """

    def step(key, hparams, task, state):
        return state - hparams["lr"] * task * state

    def loss(key, hparams, task, state):
        return state**2 / 2 * hparams["power"]

    return Problem(
        sample=lambda key: jax.random.uniform(key, minval=0.5, maxval=1.5),
        init=lambda key, hparams, task: hparams["start"],
        step=step,
        loss=loss,
        describe=lambda task: task[None],
    )


def scalar_hparams(lr, start=1.3):
    return {"lr": jnp.asarray(lr), "power": jnp.array(1), "start": jnp.asarray(start)}


def scalar_exact(lr, start, a, steps):
    """``w_T = (1 - a lr)^T w_0``; the gradient for (lr, start)."""
    base = 1 - a * lr
    by_rate = -a * steps * base ** (2 * steps - 1) * start**2 if steps else 0.0
    return by_rate, base ** (2 * steps) * start


def scalar_truncated(lr, start, a, steps, window):
    """The last ``window`` factors are differentiated; the start only if these are all."""
    if window >= steps:
        return scalar_exact(lr, start, a, steps)
    by_rate, _ = scalar_exact(lr, start * (1 - a * lr) ** (steps - window), a, window)
    return by_rate, 0.0


def scalar_first_order(lr, start, a, steps):
    """``-w_T sum_t a w_t`` and ``w_T``."""
    w = start * (1 - a * lr) ** np.arange(steps + 1)
    return -w[-1] * a * w[:-1].sum(), w[-1]


def scalar_reptile(lr, start, a, steps):
    """The displacement; the rate is out of Reptile's sight."""
    return 0.0, start - start * (1 - a * lr) ** steps


def scalar_second(lr, start, a, steps):
    """The second derivative with respect to the rate."""
    return a**2 * steps * (2 * steps - 1) * (1 - a * lr) ** (2 * steps - 2) * start**2


def ridge_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4))
    y = x @ rng.normal(size=4) + 0.3 * rng.normal(size=30)
    target = rng.normal(size=4)
    return jnp.asarray(x), jnp.asarray(y), jnp.asarray(target)


def ridge() -> Problem:
    """``argmin |Xw - y|^2 / 2n + e^l |w|^2 / 2`` by gradient descent; outer loss a smooth g(w)."""
    x, y, target = ridge_data()

    def inner(w, log_l2):
        return jnp.mean((x @ w - y) ** 2) / 2 + jnp.exp(log_l2) * jnp.sum(w**2) / 2

    def step(key, hparams, task, state):
        return state - 0.5 * jax.grad(inner)(state, hparams["log_l2"])

    return Problem(
        sample=lambda key: None,
        init=lambda key, hparams, task: jnp.zeros_like(target),
        step=step,
        loss=lambda key, hparams, task, state: ridge_outer(state),
        describe=lambda task: jnp.zeros(0),
    )


def ridge_outer(w):
    return jnp.sum(jnp.sin(w) * ridge_data()[2]) + jnp.sum(w**4)


def ridge_value(log_l2):
    """The outer loss at the minimum in closed form, to be differentiated."""
    x, y, target = ridge_data()
    hessian = x.T @ x / len(y) + jnp.exp(log_l2) * jnp.eye(len(target))
    return ridge_outer(jnp.linalg.solve(hessian, x.T @ y / len(y)))


def ridge_gradient(log_l2):
    """``-e^l g'(w)' (X'X/n + e^l I)^-1 w``, independent of automatic differentiation."""
    x, y, target = ridge_data()
    hessian = x.T @ x / len(y) + jnp.exp(log_l2) * jnp.eye(len(target))
    w = jnp.linalg.solve(hessian, x.T @ y / len(y))
    slope = jnp.cos(w) * target + 4 * w**3
    return -jnp.exp(log_l2) * slope @ jnp.linalg.solve(hessian, w)


def momentum_training() -> Problem:
    """A tanh neuron trained with momentum: no closed form, smooth in both hyperparameters.

    A task holds the neuron's inputs in its first columns and the targets in the last one.
    """

    def loss(params, task, split):
        rows = task[:6] if split == "support" else task[6:]
        return jnp.mean((jnp.tanh(rows[:, :3] @ params) - rows[:, 3]) ** 2)

    family = mh.base.TaskFamily(
        sample=lambda key: jax.random.normal(key, (14, 4)),
        init=lambda key, task: jax.random.uniform(key, (3,), task.dtype),
        loss=loss,
        describe=lambda task: task.mean(axis=0),
    )
    return mh.problems.training(family, lambda h: optax.sgd(h["lr"], momentum=h["momentum"]))
