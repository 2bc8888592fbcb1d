"""The inner loop: training as a differentiable function of its hyperparameters.

Every estimator and every run trains through this file, so checkpointing, recording and the
derivation of keys are decided once.  The loops are nested ``lax.scan`` with ``jax.checkpoint``
and no custom derivative, so ``jit``, ``vmap``, ``jvp``, ``grad`` and grad-of-grad compose.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, recomputation
from metahpo.base import HParams, Key, Problem, PyTree, State, Task
from metahpo.recomputation import Checkpoint


class Keys(NamedTuple):
    """The keys of one training: for ``init``, for all steps, and for the outer ``loss``."""

    init: Key
    steps: Key
    loss: Key


def keys(key: Key) -> Keys:
    """Derives the keys of one training; step ``t`` uses ``fold_in(keys.steps, t)``.

    Because step keys depend on ``t`` alone, a training that is cut into segments equals the whole.
    """
    return Keys(*jax.random.split(key, 3))


def step_keys(key: Key, steps: int, start: chex.Numeric = 0) -> Key:
    """The keys ``key[steps]`` of the updates ``start ... start + steps - 1``.

    Hashed together before a loop rather than one by one inside it, where the many small kernels of
    a hash would cost a small model's step more than its matrix products.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, start + jnp.arange(steps))


def advance(
    problem: Problem,
    steps: int,
    checkpoint: Checkpoint = "none",
    record: Callable[[State], PyTree] | None = None,
) -> Callable[[Key, HParams, Task, State, chex.Numeric], Any]:
    """A training segment of ``steps`` updates from a given state.

    Args:
        problem: the training process.
        steps: number of updates, at least 0.
        checkpoint: what reverse mode keeps in memory: ``"none"`` every intermediate value that is
            not elementwise in others, ``"step"`` every state (each step is computed again),
            ``"sqrt"`` about ``2 sqrt(steps)`` states (each step is computed twice again), a whole
            number at most so many states, with as few more computations as ``recomputation.plan``
            finds.  ``"unrolled"`` is for a handful of steps: they are written out one by one and
            keep everything, so that the compiler sees what they share, and compiling takes as
            many times longer.  A single step is always written out.
        record: ``(state) -> pytree``, evaluated after every step.

    Returns:
        ``(step_key, hparams, task, state, start) -> state``, where ``start`` is the number of
        updates made before, or ``-> (state, trace)`` with leading axis ``[steps]`` when recording.

    Raises:
        ValueError: if ``steps`` is negative, ``checkpoint`` unknown or too few states.
    """
    steps = checks.whole("steps", steps, at_least=0)
    plan = recomputation.plan(steps, checkpoint)

    def segment(
        step_key: Key, hparams: HParams, task: Task, state: State, start: chex.Numeric = 0
    ) -> Any:
        def body(state: State, key: Key) -> tuple[State, PyTree]:
            state = problem.step(key, hparams, task, state)
            return state, None if record is None else record(state)

        state, trace = recomputation.scan(body, state, step_keys(step_key, steps, start), plan)
        return state if record is None else (state, trace)

    return segment


def unroll(
    problem: Problem,
    steps: int,
    checkpoint: Checkpoint = "none",
    record: Callable[[State], PyTree] | None = None,
) -> Callable[[Key, HParams, Task], Any]:
    """A whole training: ``problem.init`` and then ``steps`` updates.

    Args:
        problem: the training process.
        steps: number of updates, at least 0.
        checkpoint: ``"none" | "step" | "sqrt" | "unrolled"``, a number of states: see ``advance``.
        record: ``(state) -> pytree``, evaluated after every step.

    Returns:
        ``(key, hparams, task) -> state``, or ``-> (state, trace)`` when recording.

    Raises:
        ValueError: if ``steps`` is negative or ``checkpoint`` unknown.

    Example:
        >>> import metahpo as mh
        >>> problem = mh.problems.function(lambda h: (h["x"] - 1.0) ** 2)
        >>> state = unroll(problem, steps=1)(jax.random.key(0), {"x": jnp.array(3.0)}, None)
    """
    segment = advance(problem, steps, checkpoint, record)

    def run(key: Key, hparams: HParams, task: Task) -> Any:
        init_key, step_key, _ = keys(key)
        return segment(step_key, hparams, task, problem.init(init_key, hparams, task), 0)

    return run


def outer_loss(
    problem: Problem, steps: int, checkpoint: Checkpoint = "none"
) -> Callable[[Key, HParams, Task], tuple[chex.Array, State]]:
    """The outer loss after a whole training: ``(key, hparams, task) -> (loss f32[], state)``."""
    train = unroll(problem, steps, checkpoint)

    def run(key: Key, hparams: HParams, task: Task) -> tuple[chex.Array, State]:
        state = train(key, hparams, task)
        return scalar_loss(problem, keys(key).loss, hparams, task, state), state

    return run


def scalar_loss(
    problem: Problem, key: Key, hparams: HParams, task: Task, state: State
) -> chex.Array:
    """``problem.loss``, refused with a ``ValueError`` when it is not a real scalar."""
    loss = jnp.asarray(problem.loss(key, hparams, task, state))
    if loss.shape != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise ValueError(
            f"a problem's loss must be a real scalar, got shape {loss.shape}, dtype {loss.dtype}"
        )
    return loss
