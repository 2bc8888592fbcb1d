"""What a method did on every task and seed, and what it had reached at each budget."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np


class Trials(NamedTuple):
    """The evaluations of one method, in the order in which it made them.

    Attributes:
        loss: ``f[tasks, seeds, E]``, the validation loss of each evaluation.
        score: ``f[tasks, seeds, E]``, what is reported of the best evaluation, such as its test
            accuracy; nothing is ever selected by it.
        cost: what one evaluation costs, in complete trainings.
        compile_seconds: compiling everything that ran on the compared tasks.
        run_seconds: running it.
        learning_seconds: compiling and running what was learned before, on other tasks.
    """

    loss: np.ndarray
    score: np.ndarray
    cost: float
    compile_seconds: float
    run_seconds: float
    learning_seconds: float = 0.0


class Reached(NamedTuple):
    """What the best evaluation within each budget had; NaN where a budget buys no evaluation.

    Attributes:
        loss: ``f[budgets, tasks, seeds]``.
        score: ``f[budgets, tasks, seeds]``.
    """

    loss: np.ndarray
    score: np.ndarray


def reached(trials: Trials, budgets: Sequence[float]) -> Reached:
    """The lowest validation loss within each budget, and the score of that evaluation.

    Args:
        trials: of one method.
        budgets: in complete trainings.

    Example:
        >>> trials = Trials(np.array([[[3.0, 1.0, 2.0]]]), np.array([[[0.9, 0.5, 0.7]]]), 2.0, 0, 0)
        >>> reached(trials, [1, 2, 6]).score[:, 0, 0]
        array([nan, 0.9, 0.5])
    """
    shape = (len(budgets), *trials.loss.shape[:2])
    result = Reached(np.full(shape, np.nan), np.full(shape, np.nan))
    for i, budget in enumerate(budgets):
        count = int(budget / trials.cost + 1e-6)
        if count >= 1:
            best = np.argmin(trials.loss[..., :count], axis=-1)[..., None]
            result.loss[i] = np.take_along_axis(trials.loss, best, axis=-1)[..., 0]
            result.score[i] = np.take_along_axis(trials.score, best, axis=-1)[..., 0]
    return result


def timed(fn: Callable[..., Any], *args: Any) -> tuple[Any, float, float]:
    """Compiles and runs ``fn``; returns its result, and the seconds of compiling and of running.

    Args:
        fn: what ``jax.jit`` takes.
        args: its arguments.

    Example:
        >>> result, compiling, running = timed(lambda x: 2 * x, 3)
        >>> int(result), compiling > 0, running > 0
        (6, True, True)
    """
    start = time.perf_counter()
    jitted = jax.jit(fn)
    switched_off = jax.config.jax_disable_jit  # type: ignore[attr-defined]
    compiled = jitted if switched_off else jitted.lower(*args).compile()
    middle = time.perf_counter()
    result = jax.block_until_ready(compiled(*args))
    return result, middle - start, time.perf_counter() - middle
