"""Problems without a training, for test functions and for closed forms."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import HParams, Key, Problem, State, Task


def function(fn: Callable[[HParams], chex.Array]) -> Problem:
    """A function of the hyperparameters as a Problem: its step does nothing, its loss is ``fn``.

    Args:
        fn: ``(hparams) -> f[]``, traceable.

    Returns:
        A Problem whose task is ``None`` and whose state is empty.

    Raises:
        ValueError: if it is no function of one argument.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> float(problem.loss(jax.random.key(0), {"x": jnp.array(3.0)}, None, ()))
        9.0
    """
    checks.function("fn", fn, "(hparams) -> loss", None)

    def sample(key: Key) -> Task:
        del key

    def loss(key: Key, hparams: HParams, task: Task) -> chex.Array:
        del key, task
        try:
            return jnp.asarray(fn(hparams))
        except jax.errors.ConcretizationTypeError as error:
            error.add_note("a function that JAX cannot trace is a case for mh.minimize")
            raise

    return without_training(sample, loss)


def without_training(
    sample: Callable[[Key], Task], loss: Callable[[Key, HParams, Task], chex.Array]
) -> Problem:
    """A Problem with an empty state, whose outer loss ``(key, hparams, task) -> f[]`` is all."""

    def init(key: Key, hparams: HParams, task: Task) -> State:
        del key, hparams, task
        return ()

    def step(key: Key, hparams: HParams, task: Task, state: State) -> State:
        del key, hparams, task
        return state

    def judge(key: Key, hparams: HParams, task: Task, state: State) -> chex.Array:
        del state
        return loss(key, hparams, task)

    def describe(task: Task) -> chex.Array:
        del task
        return jnp.zeros(0)

    return Problem(sample, init, step, judge, describe)
