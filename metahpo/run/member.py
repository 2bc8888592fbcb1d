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
    HParams,
    Key,
    Problem,
    PyTree,
    State,
    Task,
)
from metahpo.lanes import highest

Metrics = Callable[[Key, HParams, Task, State], PyTree]


class Trained(NamedTuple):
    """A member after a round; its failures are data.

    Attributes:
        state: the training state.
        memory: the estimator's, ``()`` without one.
        loss: the outer loss; ``inf`` where it was not finite, and for an idle member.
        grad: on the unit cube, zeros where the loss or the gradient was not finite; ``None``
            without an estimator.
        metrics: what was asked for besides; zeros for an idle member.
        nonfinite: whether the loss or the gradient was not finite.
    """

    state: State
    memory: PyTree
    loss: chex.Array
    grad: chex.Array | None
    metrics: PyTree
    nonfinite: chex.Array


class Job(NamedTuple):
    """What one member shall do in a round.

    Attributes:
        key: of its training.
        unit: ``f[D]``, its point of the unit cube.
        memory: the estimator's, ``()`` without one.
        fresh: whether it trains from scratch.
        source: ``i32[]``, the member whose training state it goes on from otherwise.
        budget: ``i32[]``, its inner steps; 0 for an idle member, which keeps its source's state.
    """

    key: Key
    unit: chex.Array
    memory: PyTree
    fresh: chex.Array
    source: chex.Array
    budget: chex.Array


Train = Callable[[Task, State, Job], Trained]


def trainer(
    problem: Problem,
    space: spaces.Space,
    steps: int,
    metrics: Metrics | None = None,
    cut: bool = True,
) -> Train:
    """Trains a member from scratch or from its source's state, for at most ``steps`` updates.

    Args:
        problem: the training process.
        space: decodes a member's point.
        steps: the most inner steps.
        metrics: evaluated on the final state.
        cut: whether budgets may be below ``steps`` (static): then the updates end with the largest
            budget of all members.

    Returns:
        ``(task, source state, job) -> Trained``; the source state is ``None`` where all members
        always train from scratch.
    """

    def train(task: Task, source_state: State, job: Job) -> Trained:
        keys = inner.keys(job.key)
        hparams = spaces.decode(space, job.unit)
        state = problem.init(keys.init, hparams, task)
        if source_state is not None:
            state = select(job.fresh, state, source_state)
        if jax.tree.leaves(state):  # without a state an update has nothing to change
            state = _updates(problem, steps, cut)(keys.steps, hparams, task, state, job.budget)
        loss = inner.scalar_loss(problem, keys.loss, hparams, task, state)
        extra = None if metrics is None else metrics(keys.loss, hparams, task, state)
        return _sound(Trained(state, (), loss, None, extra, jnp.zeros((), bool)), job)

    return train


def _updates(problem: Problem, steps: int, cut: bool) -> Callable[..., State]:
    """``(key, hparams, task, state, budget) -> state``, after ``budget <= steps`` updates."""

    def run(key: Key, hparams: HParams, task: Task, state: State, budget: chex.Array) -> State:
        keys = inner.step_keys(key, steps)

        def update(t: chex.Array, key: Key, state: State) -> State:
            new = problem.step(key, hparams, task, state)
            return select(t < budget, new, state)

        if not cut or steps == 1:
            xs = (jnp.arange(steps), keys)
            return jax.lax.scan(lambda state, x: (update(*x, state), None), state, xs)[0]
        longest = highest(budget)
        return jax.lax.while_loop(
            lambda x: x[0] < longest,
            lambda x: (x[0] + 1, update(x[0], keys[x[0]], x[1])),
            (jnp.zeros((), jnp.int32), jax.tree.map(jnp.asarray, state)),
        )[1]

    return run


def trainer_with_gradient(
    estimator: Estimator, space: spaces.Space, metrics: Metrics | None
) -> Train:
    """Estimates a member's loss and gradient; of the budget it counts whether it is 0."""

    def train(task: Task, source_state: State, job: Job) -> Trained:
        del source_state
        hparams = spaces.decode(space, job.unit)
        estimate, memory = estimator.estimate(job.key, hparams, task, job.memory)
        memory = select(job.budget > 0, memory, job.memory)
        grad = spaces.pullback(space, job.unit, estimate.grad)
        state = _final_state(estimate, metrics)
        extra = None
        if metrics is not None:
            extra = metrics(inner.keys(job.key).loss, hparams, task, state)
        bad = jnp.zeros((), bool)
        return _sound(Trained(state, memory, estimate.loss, grad, extra, bad), job)

    return train


def _final_state(estimate: Estimate, metrics: Metrics | None) -> State:
    if metrics is not None and "state" not in estimate.info:
        raise ValueError(
            "metrics need the final training state, which this estimator does not give in "
            f"info['state']; its info has {sorted(estimate.info)}"
        )
    return estimate.info.get("state", ())


def _sound(trained: Trained, job: Job) -> Trained:
    """Makes failures data: an infinite loss, a zero gradient, and a flag."""
    active = job.budget > 0
    good = jnp.isfinite(trained.loss)
    loss = jnp.where(good & active, trained.loss, jnp.inf)
    grad = trained.grad
    if grad is not None:
        good &= jnp.isfinite(grad).all()
        grad = jnp.where(good & active, grad, 0.0)
    metrics = jax.tree.map(lambda x: jnp.where(active, x, jnp.zeros_like(x)), trained.metrics)
    return trained._replace(loss=loss, grad=grad, metrics=metrics, nonfinite=~good & active)


def select(condition: chex.Array, new: Any, old: Any) -> Any:
    """One of two pytrees, by a traced condition."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def blank(shapes: PyTree, key: Key) -> PyTree:
    """Zeros of these shapes; a state may also hold random keys, which have no zero."""

    def zeros(x: jax.ShapeDtypeStruct) -> chex.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(key, x.shape)
        return jnp.zeros(x.shape, x.dtype)

    return jax.tree.map(zeros, shapes)
