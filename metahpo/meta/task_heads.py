"""Multi-task learning: a trunk that all tasks share, and a head of its own for each task."""

from typing import TypedDict

import chex
import optax

from metahpo import checks
from metahpo.base import Key, Params, Problem, Task, TaskFamily
from metahpo.meta.gradients import Gradient, constant_gradient
from metahpo.meta.leaves import Chooses, Leaves, choose, in_head, replace
from metahpo.meta.maml import initial_params
from metahpo.meta.partial_adaptation import train_part


class SharedParams(TypedDict, total=False):
    """What all tasks share, in dicts by path; ``head`` is missing where heads start fresh."""

    trunk: Leaves
    head: Leaves


def task_heads(
    family: TaskFamily,
    learning_rate: chex.Numeric | optax.Schedule,
    *,
    fresh: bool = True,
    head: Chooses = in_head,
    gradient: Gradient = constant_gradient,
) -> Problem:
    """A shared trunk below a head that each task trains from scratch (Caruana 1997).

    *Shared* by all tasks and learned from all of them are the leaves outside the head, with
    ``fresh=False`` also where heads start.  *Not shared* is the head: it is trained on the
    task's support set, with the trunk fixed, and forgotten after the task.  By default the
    trained head counts as a constant, so that the trunk follows the mean gradient of the tasks'
    query losses below their heads, which is multi-task learning.  With ``gradient=jax.grad``
    reverse mode also differentiates how the head came about: with ``fresh=False`` that is ANIL,
    with fresh heads an iterative relative of ``ridge_head``.

    Args:
        family: data, model and loss; its ``init`` draws fresh heads.
        learning_rate: of the updates of the head, a number or ``(step) -> number``.
        fresh: whether every task draws a new head instead of starting from a learned one.
        head: ``(path) -> bool``, the leaves of the head; by default those of the layer
            ``head``.
        gradient: of the support loss, as for ``maml``.

    Returns:
        A Problem with hyperparameters ``{"trunk": {path: leaf}}`` and, with ``fresh=False``,
        ``"head"``; the outer loss is the query loss after the updates.

    Raises:
        ValueError: when traced, if no leaf belongs to the head, or all do.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.meta.task_heads(mh.problems.sinusoid(shots=5), learning_rate=0.01)
        >>> hparams = problem.initial(jax.random.key(0))
        >>> sorted(hparams["trunk"])[:2]
        ['params/Dense_0/bias', 'params/Dense_0/kernel']
        >>> adapt, predict = mh.meta.learner(problem, steps=10)
    """
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    checks.number_or_schedule("learning_rate", learning_rate)

    def start(key: Key, hparams: SharedParams, task: Task) -> Params:
        return replace(family.init(key, task), {**hparams["trunk"], **hparams.get("head", {})})

    def initial(key: Key) -> SharedParams:
        params = initial_params(key, family)
        trunk = choose(params, lambda path: not head(path))
        return {"trunk": trunk} if fresh else {"trunk": trunk, "head": choose(params, head)}

    return train_part(family, start, learning_rate, head, gradient, initial)
