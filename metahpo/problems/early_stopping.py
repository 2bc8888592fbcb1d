"""Training that ends when it no longer helps, and is judged by its best checkpoint."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import HParams, Key, Problem, PyTree, State, Task
from metahpo.inner import check_problem


class EarlyStopped(NamedTuple):
    """A training, and the best that it has been.

    Attributes:
        state: the training's state, which no longer changes once the patience is over.
        best: the state with the lowest monitored loss so far.
        best_loss: ``f[]``, that loss.
        best_step: ``i32[]``, the updates behind it.
        steps: ``i32[]``, the updates made.
        waited: ``i32[]``, judgements since the best one.
    """

    state: State
    best: State
    best_loss: chex.Array
    best_step: chex.Array
    steps: chex.Array
    waited: chex.Array


def early_stopping(
    problem: Problem,
    *,
    patience: int,
    every: int = 1,
    monitor: Callable[[Key, HParams, Task, State], chex.Array] | None = None,
) -> Problem:
    """The same training, stopped early and judged by its best checkpoint.

    What chooses the checkpoint has seen its split: its loss there is too good by the choice.  So
    the loss of the split that decides is for comparing hyperparameters, and what is reported comes
    from a third split, evaluated once, on ``state.best`` of the winner.
    With ``monitor`` the split that decides can be another than the one that judges.

    A stopped training goes on as a frozen one: in a compiled program its updates are computed, and
    left out.  A loss that is not finite is never the best.  Gradients flow through the checkpoint
    that was chosen; which one was chosen has no derivative.

    Args:
        problem: any training process.
        patience: judgements without a new best before the training stops, at least 1.
        every: updates between judgements, at least 1.
        monitor: ``(key, hparams, task, state) -> f[]``; the problem's own loss by default.

    Returns:
        A Problem whose state is an ``EarlyStopped`` and whose loss is that of ``state.best``.

    Raises:
        ValueError: for a patience or an ``every`` below 1.

    Example:
        >>> import jax, metahpo as mh
        >>> valley = mh.Problem(  # the loss falls for three steps, then it rises
        ...     sample=lambda key: None,
        ...     init=lambda key, h, task: jnp.zeros(()),
        ...     step=lambda key, h, task, state: state + 1.0,
        ...     loss=lambda key, h, task, state: (state - 3.0) ** 2,
        ... )
        >>> problem = early_stopping(valley, patience=2)
        >>> loss, state = mh.inner.outer_loss(problem, steps=9)(jax.random.key(0), {}, None)
        >>> float(loss), int(state.best_step), float(state.state)
        (0.0, 3, 5.0)
    """
    check_problem(problem)
    patience = checks.whole("patience", patience)
    every = checks.whole("every", every)
    judge = problem.loss if monitor is None else monitor

    def init(key: Key, hparams: HParams, task: Task) -> EarlyStopped:
        init_key, judge_key = jax.random.split(key)
        state = jax.tree.map(jnp.asarray, problem.init(init_key, hparams, task))
        loss = jnp.asarray(judge(judge_key, hparams, task, state))
        zero = jnp.zeros((), jnp.int32)
        return EarlyStopped(state, state, _ranked(loss), zero, zero, zero)

    def step(key: Key, hparams: HParams, task: Task, now: EarlyStopped) -> EarlyStopped:
        step_key, judge_key = jax.random.split(key)
        going = now.waited < patience
        steps = now.steps + going
        moved = problem.step(step_key, hparams, task, now.state)
        state = _where(going, moved, now.state)
        due = going & (steps % every == 0)

        def judged(state: State) -> chex.Array:
            return _ranked(jnp.asarray(judge(judge_key, hparams, task, state)))

        if every == 1:
            loss = judged(state)
        else:
            loss = jax.lax.cond(
                due, judged, lambda state: jnp.full_like(now.best_loss, jnp.inf), state
            )
        better = due & (loss < now.best_loss)
        return EarlyStopped(
            state,
            _where(better, state, now.best),
            jnp.where(better, loss, now.best_loss),
            jnp.where(better, steps, now.best_step),
            steps,
            jnp.where(better, 0, now.waited + due),
        )

    def loss(key: Key, hparams: HParams, task: Task, state: EarlyStopped) -> chex.Array:
        return problem.loss(key, hparams, task, state.best)

    inner = problem.predict

    def predict(state: EarlyStopped, x: chex.Array) -> PyTree:
        assert inner is not None
        return inner(state.best, x)

    known = None if inner is None else predict

    def lift(inner_loss: Callable[..., chex.Array]) -> Callable[..., chex.Array]:
        raise ValueError(
            "an inner loss supposes that training has converged, and early stopping ends it "
            "before: give the estimator the problem without it, or differentiate the path"
        )

    return Problem(problem.sample, init, step, loss, problem.describe, known, problem.initial, lift)


def _ranked(loss: chex.Array) -> chex.Array:
    return jnp.where(jnp.isfinite(loss), loss, jnp.inf)


def _where(condition: chex.Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
