"""What all methods of a comparison share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from metahpo.base import HParams, Key, Problem, State, Task
from metahpo.space import Space
from metahpo.study.trials import Trials, timed

Metric = Callable[[Key, HParams, Task, State], chex.Array]
Reach = tuple[chex.Array, chex.Array]
"""Losses and scores of evaluations in their order."""


class Setting(NamedTuple):
    """What all methods share.

    Attributes:
        problem: that is tuned.
        space: of its hyperparameters.
        steps: inner steps of a complete training.
        metric: the score of a trained state, ``None`` without one.
        key: for what is learned on other tasks.
        tasks: the compared tasks, leading axis ``[tasks]``.
        keys: ``key[tasks, seeds]``, the same for every method.
        budget: complete trainings that a method may spend on a task.
        effort: the share of its usual work that a method puts into learning on other tasks.
    """

    problem: Problem
    space: Space
    steps: int
    metric: Metric | None
    key: Key
    tasks: Task
    keys: Key
    budget: int
    effort: float = 1.0

    def share(self, work: int) -> int:
        """So much of the usual work on other tasks."""
        return max(1, round(self.effort * work))

    def score(self, key: Key, hparams: HParams, task: Task, state: State) -> chex.Array | None:
        """The score of a trained state, or ``None``."""
        return None if self.metric is None else self.metric(key, hparams, task, state)


Method = Callable[[Setting], Trials]


def make_setting(
    problem: Problem,
    space: Space,
    steps: int,
    metric: Metric | None,
    *,
    tasks: int | Task,
    seeds: int,
    budget: int,
    seed: int,
    effort: float = 1.0,
) -> Setting:
    """Draws the tasks, unless they are given with a leading axis, and the keys of a comparison."""
    task_key, run_key, learn_key = jax.random.split(jax.random.key(seed), 3)
    if isinstance(tasks, int):
        count, keys = tasks, jax.random.split(task_key, tasks)
        tasks = jax.jit(jax.vmap(problem.sample))(keys)
    else:
        count = number(tasks)
    keys = jax.random.split(run_key, (count, seeds))
    return Setting(problem, space, steps, metric, learn_key, tasks, keys, budget, effort)


def number(tasks: Task) -> int:
    """How many tasks there are along the leading axis.

    Raises:
        ValueError: if there is none, or not one.
    """
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tasks)}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        raise ValueError(
            "tasks must be a number, or a pytree of arrays with one leading axis [tasks], "
            f"got leading axes {sorted(lengths)}"
        )
    return int(lengths.pop()[0])


def on_all(one: Callable[..., Any], setting: Setting, *shared: Any) -> tuple[Any, float, float]:
    """Runs ``one(key, task, *shared)`` on all tasks and seeds; result, compile and run seconds.

    The tasks follow one another inside the compiled program: what trains at the same time then
    fits into the processor's cache.
    """

    def everything(keys: Key, tasks: Task, *shared: Any) -> Any:
        over_seeds = jax.vmap(one, (0, None) + (None,) * len(shared))
        return jax.lax.map(lambda pair: over_seeds(*pair, *shared), (keys, tasks))

    return timed(everything, setting.keys, setting.tasks, *shared)


def as_trials(outcome: tuple[Any, Any], cost: float, *seconds: float) -> Trials:
    """Flattens the evaluations of each task and seed; NaN where there is no score."""
    loss = np.asarray(outcome[0])
    score = np.full(loss.shape, np.nan) if outcome[1] is None else np.asarray(outcome[1])
    if score.shape != loss.shape:
        raise ValueError(
            f"a metric must be one number a training, got shape {score.shape[loss.ndim :]}"
        )
    loss, score = (x.reshape(*x.shape[:2], -1) for x in (loss, score))
    return Trials(loss, score, float(cost), *seconds)
