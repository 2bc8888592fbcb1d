"""Training of a part of the parameters on a task, while the rest is shared by all tasks."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import chex
import optax

from metahpo.base import HParams, Key, Params, Problem, Task, TaskFamily
from metahpo.meta.gradients import Gradient
from metahpo.meta.leaves import Chooses, Leaves, choose, in_tree, replace
from metahpo.problems.stateful import keyed_loss
from metahpo.problems.training import TrainState, training

Predict: TypeAlias = Callable[[Any, chex.Array], chex.Array]


class PartState(NamedTuple):
    """The state of a training of chosen leaves.

    Attributes:
        start: params before the first step; the leaves that are not chosen stay in use.
        adapted: the training of the chosen leaves, whose ``params`` are a dict by path.
    """

    start: Params
    adapted: TrainState

    @property
    def params(self) -> Params:
        """All parameters, adapted and shared."""
        return replace(self.start, self.adapted.params)


def train_part(
    family: TaskFamily,
    start: Callable[[Key, HParams, Task], Params],
    learning_rate: chex.Numeric | optax.Schedule,
    adapts: Chooses,
    gradient: Gradient,
    initial: Callable[[Key], HParams],
    predict: Predict | None = None,
) -> Problem:
    """Gradient descent on the leaves that ``adapts`` names, from ``start(key, hparams, task)``.

    Only their gradients are computed, and only they change; the outer loss, the query loss,
    depends on the hyperparameters through all of ``start``.  Predictions are by default those of
    the family's network.
    """

    def of_leaves(start: Params) -> TaskFamily:
        def loss(leaves: Leaves, task: Task, split: str, key: Key | None = None) -> chex.Array:
            return keyed_loss(family, key, replace(start, leaves), task, split)

        return family._replace(init=lambda key, task: choose(start, adapts), loss=loss)

    def inner(start: Params) -> Problem:
        return training(
            family,
            lambda start: optax.sgd(learning_rate),
            configure=of_leaves,
            gradient=in_tree(gradient, start),
        )

    def init(key: Key, hparams: HParams, task: Task) -> PartState:
        params = start(key, hparams, task)
        return PartState(params, inner(params).init(key, params, task))

    def step(key: Key, hparams: HParams, task: Task, state: PartState) -> PartState:
        del hparams  # they are in the start
        adapted = inner(state.start).step(key, state.start, task, state.adapted)
        return state._replace(adapted=adapted)

    def loss(key: Key, hparams: HParams, task: Task, state: PartState) -> chex.Array:
        del hparams
        return inner(state.start).loss(key, state.start, task, state.adapted)

    predict = predictor(family) if predict is None else predict
    return Problem(family.sample, init, step, loss, family.describe, predict, initial)


def predictor(family: TaskFamily) -> Predict | None:
    """``predict`` from a state with ``params``, if the family has a network."""
    network = family.network
    if network is None:
        return None
    return lambda state, x: network.apply(state.params, x)
