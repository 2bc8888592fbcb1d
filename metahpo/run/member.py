"""One member of a population in one round: trained, judged, and its failures made data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, inner
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
from metahpo.inner import Training
from metahpo.lanes import highest

Metrics = Callable[[Key, HParams, Task, State], PyTree]


class Trained(NamedTuple):
    """A member after a round; its failures are data.

    Attributes:
        training: an ``inner.Training`` without its task, which all members share; with an estimator
            the final state alone.
        memory: the estimator's, ``()`` without one.
        loss: the outer loss; ``inf`` where it was not finite, and for an idle member.
        grad: on the unit cube, zeros where the loss or the gradient was not finite; ``None``
            without an estimator.
        metrics: what was asked for besides; zeros for an idle member.
        steps: ``i32[]``, the updates behind the loss; 0 for an idle member.
        nonfinite: whether the loss or the gradient was not finite.
    """

    training: Any
    memory: PyTree
    loss: chex.Array
    grad: chex.Array | None
    metrics: PyTree
    steps: chex.Array
    nonfinite: chex.Array


class Job(NamedTuple):
    """What one member shall do in a round.

    Attributes:
        key: of its training.
        unit: ``f[D]``, its point of the unit cube.
        memory: the estimator's, ``()`` without one.
        fresh: whether it trains from scratch.
        source: ``i32[]``, the member whose training it goes on from otherwise.
        itself: whether that is its own, with its keys; a copy of another goes on with new ones.
        budget: ``i32[]``, its inner steps; 0 for an idle member, which keeps its source's state.
    """

    key: Key
    unit: chex.Array
    memory: PyTree
    fresh: chex.Array
    source: chex.Array
    itself: chex.Array
    budget: chex.Array


Train = Callable[[Task, Training | None, Job], Trained]


def trainer(
    problem: Problem,
    space: spaces.Space,
    steps: int,
    metrics: Metrics | None = None,
    cut: bool = True,
    scratch: bool | None = None,
) -> Train:
    """Trains a member from scratch or on from its source, for at most ``steps`` updates.

    Args:
        problem: the training process.
        space: decodes a member's point.
        steps: the most inner steps.
        metrics: evaluated on the final state.
        cut: whether budgets may be below ``steps`` (static): then the updates end with the largest
            budget of all members.
        scratch: whether all members train from scratch, or all go on from their sources; ``None``
            for either (static).

    Returns:
        ``(task, source, job) -> Trained``; the source is a training without its task, or ``None``
        where all members always train from scratch.
    """
    go_on = _updates(problem, steps, cut)

    def train(task: Task, source: Training | None, job: Job) -> Trained:
        hparams = spaces.decode(space, job.unit)
        if source is not None:
            keys = select(job.itself, source.keys, inner.keys(job.key))
            source = source._replace(keys=keys, task=task)
        if source is None or scratch is not False:
            training = inner.begin(problem, job.key, hparams, task)
            if source is not None:
                kept = select(job.fresh, training._replace(task=()), source._replace(task=()))
                training = kept._replace(task=task)
        else:
            training = source
        training = go_on(hparams, training, job.budget)
        loss = inner.judge(problem, hparams, training)
        extra = None
        if metrics is not None:
            extra = metrics(training.keys.loss, hparams, task, training.state)
        bad, steps = jnp.zeros((), bool), training.steps
        training = training._replace(task=())
        return _sound(Trained(training, (), loss, None, extra, steps, bad), job)

    return train


def _updates(
    problem: Problem, steps: int, cut: bool
) -> Callable[[HParams, Training, chex.Array], Training]:
    """``(hparams, training, budget) -> training``, after ``budget <= steps`` more updates."""

    def run(hparams: HParams, training: Training, budget: chex.Array) -> Training:
        made = training._replace(steps=training.steps + budget)
        if not jax.tree.leaves(training.state):  # an update has nothing to change
            return made
        keys = inner.step_keys(training.keys.steps, steps, training.steps)

        def step(key: Key, state: State) -> State:
            new = problem.step(key, hparams, training.task, state)
            checks.alike("a problem's step", new, state)
            return new

        once = inner.fenced(step, highest(training.steps)) if steps == 1 else step

        def update(t: chex.Array, key: Key, state: State) -> State:
            return select(t < budget, once(key, state), state)

        if not cut or steps == 1:
            xs = (jnp.arange(steps), keys)
            state, _ = jax.lax.scan(lambda s, x: (update(*x, s), None), training.state, xs)
            return made._replace(state=state)
        longest = highest(budget)
        _, state = jax.lax.while_loop(
            lambda x: x[0] < longest,
            lambda x: (x[0] + 1, update(x[0], keys[x[0]], x[1])),
            (jnp.zeros((), jnp.int32), jax.tree.map(jnp.asarray, training.state)),
        )
        return made._replace(state=state)

    return run


def trainer_with_gradient(
    estimator: Estimator, space: spaces.Space, steps: int, metrics: Metrics | None
) -> Train:
    """Estimates a member's loss and gradient; of the budget it counts whether it is 0."""

    def train(task: Task, source: Training | None, job: Job) -> Trained:
        del source
        hparams = spaces.decode(space, job.unit)
        estimate, memory = estimator.estimate(job.key, hparams, task, job.memory)
        memory = select(job.budget > 0, memory, job.memory)
        grad = spaces.pullback(space, job.unit, estimate.grad)
        state = _final_state(estimate, metrics)
        extra = None
        if metrics is not None:
            extra = metrics(inner.keys(job.key).loss, hparams, task, state)
        bad, made = jnp.zeros((), bool), jnp.int32(steps)
        nothing: Any = ()  # the estimator keeps what it takes to go on
        last = Training(nothing, (), state, nothing)
        return _sound(Trained(last, memory, estimate.loss, grad, extra, made, bad), job)

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
    return trained._replace(
        loss=loss,
        grad=grad,
        metrics=metrics,
        steps=jnp.where(active, trained.steps, 0),
        nonfinite=~good & active,
    )


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
