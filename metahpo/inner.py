"""The inner loop: training as a differentiable function of its hyperparameters.

Every estimator and every run trains through this file, so recomputation, recording and the
derivation of keys are decided once.  The loops are nested ``lax.scan`` with ``jax.checkpoint``
and no custom derivative, so ``jit``, ``vmap``, ``jvp``, ``grad`` and grad-of-grad compose.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks, floats, recomputation
from metahpo.base import HParams, Key, Problem, PyTree, State, Task
from metahpo.recomputation import Checkpoint


class Keys(NamedTuple):
    """The keys of one training: for ``init``, for all steps, and for the outer ``loss``."""

    init: Key
    steps: Key
    loss: Key


class Training(NamedTuple):
    """A training under way: all that it takes to go on with it and to judge it.

    Going on by ``n`` and then by ``m`` updates is going on by ``n + m``, to the bit, wherever the
    training was kept in between.

    Attributes:
        keys: the training's ``Keys``.
        task: what it trains on.
        state: the training state.
        steps: ``i32[]``, the updates made.
    """

    keys: Keys
    task: Task
    state: State
    steps: chex.Array


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


def repeat(
    step: Callable[[Key, PyTree], PyTree],
    steps: int,
    checkpoint: Checkpoint = "none",
    record: Callable[[PyTree], PyTree] | None = None,
) -> Callable[..., Any]:
    """The loop behind every training, of any step.

    Args:
        step: ``(key, carry) -> carry``.
        steps: number of steps, at least 0.
        checkpoint: what reverse mode keeps in memory: ``"none"`` every intermediate value that is
            not elementwise in others, ``"step"`` every state (each step is computed again),
            ``"sqrt"`` about ``2 sqrt(steps)`` states (each step is computed twice again), a whole
            number at most so many states, with as few more computations as ``recomputation.plan``
            finds.  ``"unrolled"`` is for a handful of steps: they are written out one by one and
            keep everything, so that the compiler sees what they share, and compiling takes as
            many times longer.  A single step is always written out.
        record: ``(carry) -> pytree``, evaluated after every step.

    Returns:
        ``(step_key, carry, start=0) -> carry``, where ``start`` is the number of steps made
        before, or ``-> (carry, trace)`` with leading axis ``[steps]`` when recording.

    Raises:
        ValueError: if ``steps`` is negative, ``checkpoint`` unknown or too few states.
    """
    steps = checks.whole("steps", steps, at_least=0)
    plan = recomputation.plan(steps, checkpoint)
    single = plan.unrolled and checkpoint != "unrolled"

    def run(step_key: Key, carry: PyTree, start: chex.Numeric = 0) -> Any:
        def body(carry: PyTree, key: Key) -> tuple[PyTree, PyTree]:
            carry = (fenced(step, start) if single else step)(key, carry)
            return carry, None if record is None else record(carry)

        carry, trace = recomputation.scan(body, carry, step_keys(step_key, steps, start), plan)
        return carry if record is None else (carry, trace)

    return run


def fenced(
    step: Callable[[Key, PyTree], PyTree], start: chex.Numeric
) -> Callable[[Key, PyTree], PyTree]:
    """A single step, compiled as the body of a loop would be, to the same bits.

    A compiler that merges it with what stands around it may round otherwise.  It does not look
    across a condition of which it cannot know that it always holds.
    """
    if checks.known(start):
        return step
    return lambda key, carry: jax.lax.cond(start >= 0, step, lambda key, carry: carry, key, carry)


def check_problem(problem: Problem) -> None:
    """Raises ``ValueError`` unless it is one."""
    checks.record("problem", problem, Problem, "mh.problems.training or mh.problems.function")


def begin(problem: Problem, key: Key, hparams: HParams, task: Task) -> Training:
    """A training before its first update.

    Example:
        >>> import metahpo as mh
        >>> problem = mh.problems.function(lambda h: (h["x"] - 1.0) ** 2)
        >>> training = begin(problem, jax.random.key(0), {"x": jnp.array(3.0)}, None)
        >>> training = advance(problem, steps=5)({"x": jnp.array(3.0)}, training)
        >>> int(training.steps), float(judge(problem, {"x": jnp.array(3.0)}, training))
        (5, 4.0)
    """
    own = keys(key)
    state = jax.tree.map(jnp.asarray, problem.init(own.init, hparams, task))
    if callable(problem.step):  # single-loop estimators have no use of one
        state = _settled(lambda state: problem.step(own.steps, hparams, task, state), state)
    return Training(own, task, state, np.int32(0))


def _settled(step: Callable[[State], State], state: State) -> State:
    """With the types that a step gives to what began as a Python number, as a counter from 0."""
    if not any(map(floats.is_weak, jax.tree.leaves(state))):
        return state

    def settled(leaf: chex.Array, after: jax.ShapeDtypeStruct) -> chex.Array:
        return leaf.astype(after.dtype) if floats.is_weak(leaf) else leaf

    return jax.tree.map(settled, state, jax.eval_shape(step, state))


def advance(
    problem: Problem,
    steps: int,
    checkpoint: Checkpoint = "none",
    record: Callable[[State], PyTree] | None = None,
) -> Callable[[HParams, Training], Any]:
    """Goes on with a training by ``steps`` updates.

    Args:
        problem: the training process.
        steps: number of updates, at least 0.
        checkpoint: what reverse mode keeps in memory, see ``repeat``.
        record: ``(state) -> pytree``, evaluated after every update.

    Returns:
        ``(hparams, training) -> training``, or ``-> (training, trace)`` with leading axis
        ``[steps]`` when recording.

    Raises:
        ValueError: if ``steps`` is negative, ``checkpoint`` unknown or too few states.
    """
    check_problem(problem)
    steps = checks.whole("steps", steps, at_least=0)
    recomputation.plan(steps, checkpoint)  # refuses what is wrong now rather than inside the trace

    def run(hparams: HParams, training: Training) -> Any:
        # What comes from a file is numpy's, which a traced index does not get into.
        task, start = jax.tree.map(jnp.asarray, (training.task, training.state))

        def step(key: Key, state: State) -> State:
            new = jax.tree.map(jnp.asarray, problem.step(key, hparams, task, state))
            checks.alike("a problem's step", new, state)
            return new

        loop = repeat(step, steps, checkpoint, record)
        out = loop(training.keys.steps, start, training.steps)
        state, trace = (out, None) if record is None else out
        training_ = training._replace(state=state, steps=training.steps + steps)
        return training_ if record is None else (training_, trace)

    return run


def judge(problem: Problem, hparams: HParams, training: Training) -> chex.Array:
    """The outer loss ``f[]`` of a training as it stands.

    Raises:
        ValueError: unless the problem's loss is a real scalar.
    """
    return scalar_loss(problem, training.keys.loss, hparams, training.task, training.state)


def judge_along(problem: Problem, hparams: HParams, training: Training) -> chex.Array:
    """``judge`` with a loss key for each number of updates, for losses that are summed."""
    loss_key = jax.random.fold_in(training.keys.loss, training.steps)
    return judge(problem, hparams, training._replace(keys=training.keys._replace(loss=loss_key)))


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
        checkpoint: ``"none" | "step" | "sqrt" | "unrolled"``, a number of states: see ``repeat``.
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
    train = advance(problem, steps, checkpoint, record)

    def run(key: Key, hparams: HParams, task: Task) -> Any:
        out = train(hparams, begin(problem, key, hparams, task))
        return out.state if record is None else (out[0].state, out[1])

    return run


def outer_loss(
    problem: Problem, steps: int, checkpoint: Checkpoint = "none"
) -> Callable[[Key, HParams, Task], tuple[chex.Array, State]]:
    """The outer loss after a whole training: ``(key, hparams, task) -> (loss f32[], state)``."""
    train = advance(problem, steps, checkpoint)

    def run(key: Key, hparams: HParams, task: Task) -> tuple[chex.Array, State]:
        training = train(hparams, begin(problem, key, hparams, task))
        return judge(problem, hparams, training), training.state

    return run


def scalar_loss(
    problem: Problem, key: Key, hparams: HParams, task: Task, state: State
) -> chex.Array:
    """``problem.loss`` in 32 bits or more, so that means of it keep their digits.

    Raises:
        ValueError: when it is not a real scalar.
    """
    loss = jnp.asarray(problem.loss(key, hparams, task, state))
    if loss.shape != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise ValueError(
            f"a problem's loss must be a real scalar, got shape {loss.shape}, dtype {loss.dtype}"
        )
    return floats.wide(loss)
