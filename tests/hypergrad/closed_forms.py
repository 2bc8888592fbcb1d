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


def scalar_implicit(lr, start, a, steps):
    """``F = lr a w`` and ``A = lr a`` give ``-w (lr a)^-1 a w``, which goes to 0 with w."""
    return -((1 - a * lr) ** (2 * steps)) * start**2 / lr, 0.0


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
    target = ridge_data()[2]

    def step(key, hparams, task, state):
        return state - 0.5 * jax.grad(ridge_inner, argnums=2)(hparams, task, state)

    return Problem(
        sample=lambda key: None,
        init=lambda key, hparams, task: jnp.zeros_like(target),
        step=step,
        loss=lambda key, hparams, task, state: ridge_outer(state),
        describe=lambda task: jnp.zeros(0),
    )


def ridge_inner(hparams, task, w):
    """The inner objective, as ``implicit`` takes it."""
    x, y, _ = ridge_data()
    return jnp.mean((x @ w - y) ** 2) / 2 + jnp.exp(hparams["log_l2"]) * jnp.sum(w**2) / 2


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


def influence_balancing() -> Problem:
    """Vicol et al. 2021, section 5.1: the recent influence of theta is against the older one.

    The loss is quadratic in theta; the steady state is ``s[0] = -6 theta``, the best theta -1/6.
    """
    size = 23
    a = 0.5 * (jnp.eye(size) + jnp.eye(size, k=1))
    q = jnp.where(jnp.arange(size) < 10, 1.0, -1.0)
    return Problem(
        sample=lambda key: None,
        init=lambda key, h, task: jnp.ones(size),
        step=lambda key, h, task, s: a @ s + h["theta"] * q,
        loss=lambda key, h, task, s: (s[0] - 1) ** 2 / 2,
        describe=lambda task: jnp.zeros(0),
    )


def accumulation() -> Problem:
    """The loss after ``t`` steps is ``-t theta``, and every step takes an equal part in it."""
    return Problem(
        sample=lambda key: None,
        init=lambda key, h, task: jnp.zeros(()),
        step=lambda key, h, task, s: s - h["theta"],
        loss=lambda key, h, task, s: s,
        describe=lambda task: jnp.zeros(0),
    )


def clock() -> Problem:
    """The loss after ``t`` steps is ``-t theta`` with the theta of that moment: no memory."""
    return accumulation()._replace(
        step=lambda key, h, task, s: s + 1, loss=lambda key, h, task, s: -s * h["theta"]
    )


def window_losses(problem, steps, window, losses, hparams):
    """What each window of an episode adds to its loss, for a problem without randomness.

    ``hparams`` holds those of each window, stacked: their derivatives are what the windows' noise
    is to be credited with.
    """
    key, found, state = jax.random.key(0), [], None
    for number, start in enumerate(range(0, steps, window)):
        h = jax.tree.map(lambda x, w=number: x[w], hparams)
        state = problem.init(key, h, None) if number == 0 else state

        def body(state, _, h=h):
            state = problem.step(key, h, None, state)
            return state, problem.loss(key, h, None, state)

        state, each = jax.lax.scan(body, state, None, min(window, steps - start))
        found.append(each.sum() if losses == "step" else each[-1])
    return jnp.stack(found)


def window_influences(problem, steps, window, losses, theta):
    """``a[w, v]``: the derivative of window ``w``'s loss by the theta of window ``v``."""

    def by_window(thetas):
        return window_losses(problem, steps, window, losses, {"theta": thetas})

    thetas = jnp.stack([jnp.asarray(theta)] * -(-steps // window))
    return np.asarray(jax.jit(jax.jacobian(by_window))(thetas))


def influence_descent(make, keys):
    """The losses ``f[keys, 2000]`` at theta while it follows persistent pairs of one long episode.

    1,000 particles are 500 pairs; as published, SGD at 1e-4 makes 2,000 updates from theta = 1/2.
    """
    estimator = make(influence_balancing(), 10**6, 1, 500, 0.1)

    def run(key):
        def body(carry, key):
            theta, memory = carry
            estimate, memory = estimator.estimate(key, {"theta": theta}, None, memory)
            theta = theta - 1e-4 * estimate.grad["theta"]
            return (theta, memory), (6 * theta + 1) ** 2 / 2

        first = jnp.array(0.5), estimator.init(key, {"theta": jnp.array(0.5)}, None)
        return jax.lax.scan(body, first, jax.random.split(key, 2000))[1]

    return jax.jit(lambda: jax.lax.map(run, jax.random.split(jax.random.key(0), keys)))()


def logistic_training() -> Problem:
    """Logistic regression with a decay per weight, by momentum: an unsymmetric Jacobian.

    A task holds the inputs in its first columns and their noise in the last one, which with the
    inputs' signal decides the label.  The hyperparameters besides ``lr`` and ``momentum``:
    ``log_decay`` f[3], ``start`` f[3], ``log_weight``, which only the outer loss has, and
    ``log_scale``, a factor of the whole inner loss.
    """

    def configured(hparams):
        def loss(w, task, split):
            if split == "support":
                return logistic_inner(hparams, task, w)
            return jnp.exp(hparams["log_weight"]) * logistic_error(w, task[20:])

        return mh.base.TaskFamily(
            sample=lambda key: jax.random.normal(key, (30, 4)),
            init=lambda key, task: hparams["start"],
            loss=loss,
            describe=lambda task: task.mean(axis=0),
        )

    return mh.problems.training(
        configured(None), lambda h: optax.sgd(h["lr"], momentum=h["momentum"]), configured
    )


def logistic_error(w, rows):
    x, label = rows[:, :3], (rows @ jnp.array([1.0, -2.0, 0.5, 1.0]) > 0).astype(rows.dtype)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(x @ w, label))


def logistic_inner(hparams, task, w):
    decay = jnp.sum(jnp.exp(hparams["log_decay"]) * w**2) / 2
    return jnp.exp(hparams["log_scale"]) * (logistic_error(w, task[:20]) + decay)


def logistic_hparams():
    return {
        "log_decay": jnp.array([-2.0, -1.0, 0.0]),
        "log_scale": jnp.array(0.1),
        "log_weight": jnp.array(0.3),
        "lr": jnp.array(0.5),
        "momentum": jnp.array(0.6),
        "start": jnp.ones(3),
    }
