"""Families whose loss needs a key, or whose model has a state of its own."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import chex

from metahpo.base import Key, Params, PyTree, Task, TaskFamily, undescribed


class StatefulFamily(NamedTuple):
    """A ``TaskFamily`` with keys for dropout and augmentation, and with a state of the model.

    The state is what a model changes itself in a forward pass, such as batch statistics: it goes
    from update to update beside the parameters, no optimiser touches it, and hypergradients flow
    through it.

    Attributes:
        sample: ``(key) -> task``.
        init: ``(key, task) -> (params, model_state)``; ``()`` without a state.
        loss: ``(key, params, model_state, task, split) -> (f[], model_state, aux)``; ``split`` is
            ``"support"`` (training, with dropout) or ``"query"`` (judging, without), ``aux`` any
            pytree of arrays, ``()`` for nothing.
        describe: ``(task) -> f[F]``.
        predict: ``(params, model_state, x) -> outputs``, or ``None``.
    """

    sample: Callable[[Key], Task]
    init: Callable[[Key, Task], tuple[Params, PyTree]]
    loss: Callable[[Key, Params, PyTree, Task, str], tuple[chex.Array, PyTree, PyTree]]
    describe: Callable[[Task], chex.Array] = undescribed
    predict: Callable[[Params, PyTree, chex.Array], PyTree] | None = None


def lifted(family: TaskFamily | StatefulFamily) -> StatefulFamily:
    """A family without keys and state as one with them."""
    if not isinstance(family, TaskFamily):
        return family

    def init(key: Key, task: Task) -> tuple[Params, PyTree]:
        return family.init(key, task), ()

    def loss(
        key: Key, params: Params, model_state: PyTree, task: Task, split: str
    ) -> tuple[chex.Array, PyTree, PyTree]:
        return keyed_loss(family, key, params, task, split), model_state, ()

    def predict(params: Params, model_state: PyTree, x: chex.Array) -> PyTree:
        del model_state
        assert family.network is not None
        return family.network.apply(params, x)

    known = None if family.network is None else predict
    return StatefulFamily(family.sample, init, loss, family.describe, known)


def keyed_loss(
    family: TaskFamily, key: Key | None, params: Params, task: Task, split: str
) -> chex.Array:
    """The family's loss, told the key of an update where it asks for one.

    What judges, on the query, draws nothing.
    """
    if key is None or split != "support" or not _takes_key(family.loss):
        return family.loss(params, task, split)
    return family.loss(params, task, split, key=key)


def _takes_key(loss: Callable[..., chex.Array]) -> bool:
    try:
        return "key" in inspect.signature(loss).parameters
    except ValueError:  # a function of C, which does not tell
        return False
