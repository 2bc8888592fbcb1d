"""A whole meta-training as a Problem, so that its own settings can be tuned and learned."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import optax

from metahpo import checks, inner
from metahpo.base import Estimator, HParams, Key, Problem, Task
from metahpo.run.meta_train import MetaState, meta_loop


class MetaTraining(NamedTuple):
    """What ``meta_train`` is given: the problem, the estimator, the optax optimiser."""

    problem: Problem
    estimator: Estimator
    optimizer: optax.GradientTransformation


def as_problem(
    configure: Callable[[HParams], MetaTraining],
    settings: HParams,
    *,
    tasks: int,
    steps: int,
    validation: int,
) -> Problem:
    """Meta-training as a training process: a step is a round, the settings its hyperparameters.

    ``search`` tunes the settings, estimators differentiate through the rounds, and what
    ``meta_train`` learns, it learns here.  A step skips an update that is not finite, as a round
    of ``meta_train`` does.

    Args:
        configure: ``(settings) -> MetaTraining``, for example of a meta-rate and an inner rate;
            called inside the traced function.  Its problem needs ``initial``.
        settings: where tuning them may start; they also tell the shapes of tasks.
        tasks: tasks averaged in a round, at least 1.
        steps: inner updates after which a validation task is judged, at least 0.
        validation: validation tasks, at least 1.

    Returns:
        A Problem whose task is ``validation`` tasks, with a leading axis, whose state is a
        ``MetaState``, whose outer loss is the mean loss of what was learned on these tasks, and
        whose ``initial`` gives ``settings``.

    Raises:
        ValueError: for no tasks, or a problem without ``initial``.

    Example:
        >>> import jax.numpy as jnp, metahpo as mh
        >>> family = mh.problems.quadratics(kappa=10.0)
        >>> def maml(settings):
        ...     problem = mh.meta.maml(family, settings["inner_rate"])
        ...     return MetaTraining(
        ...         problem, mh.hypergrad.reverse(problem, 1), optax.adam(settings["meta_rate"])
        ...     )
        >>> settings = {"inner_rate": jnp.array(0.01), "meta_rate": jnp.array(0.001)}
        >>> problem = as_problem(maml, settings, tasks=4, steps=1, validation=8)
        >>> task = jax.jit(problem.sample)(jax.random.key(0))
        >>> unroll = jax.jit(mh.inner.unroll(problem, steps=3))
        >>> state = unroll(jax.random.key(1), settings, task)
        >>> int(state.round)
        3
    """
    tasks, validation = checks.counts(tasks=tasks, validation=validation)
    steps = checks.whole("steps", steps, at_least=0)
    if configure(settings).problem.initial is None:
        raise ValueError("the problem of a meta-training must say where learning starts (initial)")

    def sample(key: Key) -> Task:
        return jax.vmap(configure(settings).problem.sample)(jax.random.split(key, validation))

    def init(key: Key, settings: HParams, task: Task) -> MetaState:
        del task
        start_key, init_key = jax.random.split(key)
        what = configure(settings)
        start = what.problem.initial(start_key)  # type: ignore[misc]
        return meta_loop(*what[:2], start, what.optimizer, rounds=1, tasks=tasks).init(init_key)

    def step(key: Key, settings: HParams, task: Task, state: MetaState) -> MetaState:
        del task
        what = configure(settings)
        loop = meta_loop(*what[:2], state.hparams, what.optimizer, rounds=1, tasks=tasks)
        return loop.step(jax.random.split(key), state)[0]

    def loss(key: Key, settings: HParams, task: Task, state: MetaState) -> chex.Array:
        one = inner.outer_loss(configure(settings).problem, steps)
        keys = jax.random.split(key, validation)
        return jax.vmap(lambda k, t: one(k, state.hparams, t)[0])(keys, task).mean()

    def describe(task: Task) -> chex.Array:
        return jax.vmap(configure(settings).problem.describe)(task).mean(axis=0)

    return Problem(sample, init, step, loss, describe, initial=lambda key: settings)
