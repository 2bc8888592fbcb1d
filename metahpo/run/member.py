"""One member of a population in one round: trained, judged, and its failures made data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import inner
from metahpo import space as spaces
from metahpo.base import (
    Estimate,
    Estimator,
    Evaluation,
    HParams,
    Key,
    Problem,
    PyTree,
    State,
    Task,
)

Metrics = Callable[[Key, HParams, Task, State], PyTree]


class Trained(NamedTuple):
    """Members after a round.

    Attributes:
        state: the training state.
        memory: the estimator's, ``()`` without one.
        loss: the outer loss, as it is.
        grad: on the unit cube, ``None`` without an estimator.
        metrics: what was asked for besides.
    """

    state: State
    memory: PyTree
    loss: chex.Array
    grad: chex.Array | None
    metrics: PyTree


def trainer(
    problem: Problem, space: spaces.Space, steps: int, metrics: Metrics | None
) -> Callable[..., Trained]:
    """Trains a member from scratch or from its parent's state, for at most ``steps`` updates."""

    def train(
        task: Task,
        key: Key,
        unit: chex.Array,
        parent_state: State,
        memory: PyTree,
        parent: chex.Array,
        budget: chex.Array,
    ) -> Trained:
        keys = inner.keys(key)
        hparams = spaces.decode(space, unit)
        fresh = problem.init(keys.init, hparams, task)
        state = select(parent < 0, fresh, parent_state)

        def body(state: State, x: tuple[chex.Array, Key]) -> tuple[State, None]:
            t, step_key = x
            new = problem.step(step_key, hparams, task, state)
            return select(t < budget, new, state), None

        xs = (jnp.arange(steps), inner.step_keys(keys.steps, steps))
        state, _ = jax.lax.scan(body, state, xs)
        loss = inner.scalar_loss(problem, keys.loss, hparams, task, state)
        extra = None if metrics is None else metrics(keys.loss, hparams, task, state)
        return Trained(state, memory, loss, None, extra)

    return train


def trainer_with_gradient(
    estimator: Estimator, space: spaces.Space, metrics: Metrics | None
) -> Callable[..., Trained]:
    """Estimates a member's loss and gradient; the arguments are those of ``trainer``'s result."""

    def train(
        task: Task,
        key: Key,
        unit: chex.Array,
        parent_state: State,
        memory: PyTree,
        parent: chex.Array,
        budget: chex.Array,
    ) -> Trained:
        del parent_state, parent, budget
        hparams = spaces.decode(space, unit)
        estimate, memory = estimator.estimate(key, hparams, task, memory)
        grad = spaces.pullback(space, unit, estimate.grad)
        state = _final_state(estimate, metrics)
        extra = None if metrics is None else metrics(inner.keys(key).loss, hparams, task, state)
        return Trained(state, memory, estimate.loss, grad, extra)

    return train


def _final_state(estimate: Estimate, metrics: Metrics | None) -> State:
    if metrics is not None and "state" not in estimate.info:
        raise ValueError(
            "metrics need the final training state, which this estimator does not give in "
            f"info['state']; its info has {sorted(estimate.info)}"
        )
    return estimate.info.get("state", ())


def as_evaluation(trained: Trained) -> tuple[Evaluation, chex.Array]:
    """Makes failures data: an infinite loss, a zero gradient, and a flag."""
    finite = jnp.isfinite(trained.loss)
    loss = jnp.where(finite, trained.loss, jnp.inf)
    if trained.grad is None:
        return Evaluation(loss, None, ()), ~finite
    good = finite & jnp.isfinite(trained.grad).all(axis=1)
    grad = jnp.where(good[:, None], trained.grad, 0.0)
    return Evaluation(loss, grad, ()), ~good


def select(condition: chex.Array, new: Any, old: Any) -> Any:
    """One of two pytrees, by a traced condition."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
