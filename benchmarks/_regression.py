"""Regressions whose implicit hypergradient is known: ridge and logistic, an L2 per feature.

Inner loss: data loss plus ``sum_j exp(log_l2_j) w_j^2 / 2``; outer loss: the data loss of the other
half.  ``truth`` solves both to the end in f64 with numpy alone.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metahpo.base import HParams, Key, Problem
from metahpo.problems.training import TrainState

KINDS = ("ridge", "logistic")
RATE = 0.5


class Inner(NamedTuple):
    """How the regression is trained."""

    name: str
    steps: int


DESCENT = Inner("gradient descent", steps=200)
QUASI_NEWTON = Inner("quasi-Newton", steps=20)


def arrays(kind: str, examples: int, features: int, seed: int = 0) -> dict[str, np.ndarray]:
    """``support_x`` and ``query_x`` f[examples, features], ``..._y`` f[examples], ``log_l2``."""
    rng = np.random.default_rng(seed)
    teacher = rng.normal(size=features) / np.sqrt(features)
    made = {"log_l2": np.log(rng.uniform(0.05, 0.2, features))}
    for split in ("support", "query"):
        x = rng.normal(size=(examples, features))
        y = x @ teacher + 0.5 * rng.normal(size=examples)
        made |= {f"{split}_x": x, f"{split}_y": y if kind == "ridge" else np.sign(y)}
    return made


def data_loss(kind: str, w: chex.Array, x: chex.Array, y: chex.Array) -> chex.Array:
    """Mean square over 2, or the logistic loss of labels -1 and 1."""
    if kind == "ridge":
        return jnp.mean((x @ w - y) ** 2) / 2
    return jnp.mean(jax.nn.softplus(-y * (x @ w)))


def inner_loss(kind: str) -> Any:
    """``(hparams, task, w) -> f[]``."""

    def loss(hparams: HParams, task: Any, w: chex.Array) -> chex.Array:
        penalty = jnp.sum(jnp.exp(hparams["log_l2"]) * w**2) / 2
        return data_loss(kind, w, task["support_x"], task["support_y"]) + penalty

    return loss


def problem(kind: str, inner: Inner) -> Problem:
    """Training from zeros, by gradient descent or by L-BFGS."""
    inner_value = inner_loss(kind)
    optimizer = optax.sgd(RATE) if inner == DESCENT else optax.lbfgs()

    def init(key: Key, hparams: HParams, task: Any) -> TrainState:
        w = jnp.zeros_like(hparams["log_l2"])
        return TrainState(w, optimizer.init(w))

    def step(key: Key, hparams: HParams, task: Any, state: TrainState) -> TrainState:
        def loss(w: chex.Array) -> chex.Array:
            return inner_value(hparams, task, w)

        value, slope = jax.value_and_grad(loss)(state.params)
        extra = {} if inner == DESCENT else {"value": value, "grad": slope, "value_fn": loss}
        updates, opt_state = optimizer.update(slope, state.opt_state, state.params, **extra)
        return TrainState(optax.apply_updates(state.params, updates), opt_state)

    return Problem(
        sample=lambda key: None,
        init=init,
        step=step,
        loss=lambda key, h, task, state: data_loss(
            kind, state.params, task["query_x"], task["query_y"]
        ),
        describe=lambda task: jnp.zeros(0),
    )


def truth(kind: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The gradient of the outer loss with respect to ``log_l2``: ``-exp(log_l2) w H^-1 g``."""
    x, y, l2 = arrays["support_x"], arrays["support_y"], np.exp(arrays["log_l2"])
    w = np.zeros_like(l2)
    for _ in range(30):  # Newton's method: exact after one step for ridge
        slope, hessian = derivatives(kind, w, x, y)
        step = np.linalg.solve(hessian + np.diag(l2), slope + l2 * w)
        w = w - step
    assert np.linalg.norm(step) < 1e-12 * np.linalg.norm(w)
    outer, _ = derivatives(kind, w, arrays["query_x"], arrays["query_y"])
    _, hessian = derivatives(kind, w, x, y)
    return -l2 * w * np.linalg.solve(hessian + np.diag(l2), outer)


def derivatives(
    kind: str, w: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian of the data loss."""
    if kind == "ridge":
        return x.T @ (x @ w - y) / len(y), x.T @ x / len(y)
    p = 1 / (1 + np.exp(y * (x @ w)))
    return -x.T @ (y * p) / len(y), (x.T * (p * (1 - p))) @ x / len(y)
