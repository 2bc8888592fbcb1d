"""What a family of models is: a space, and pure functions that fit a population of it at once."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp

from metahpo.automl.preprocessing import fold_weights
from metahpo.automl.tables.padding import Table
from metahpo.base import HParams, Key, PyTree

KINDS = ("binary", "multiclass", "regression")


class Task(NamedTuple):
    """What shapes a program beside the shapes of the table; static.

    Attributes:
        kind: one of ``KINDS``.
        folds: how many.
        outputs: numbers that a model gives for a row: 1, or the padded number of classes.
    """

    kind: str
    folds: int
    outputs: int


class Data(NamedTuple):
    """What a family is fitted on.

    Attributes:
        x: ``f32[F, N, D]``, the features as each fold sees them.
        y: ``i32[N]`` or ``f32[N]``.
        weight: ``f32[F, N]``, of the training of each fold; 0 where a row does not train.
        own: ``f32[F, N]``, of its validation.
        real: ``bool[D]``, which features are no padding.
        classes: ``bool[P]``.
    """

    x: chex.Array
    y: chex.Array
    weight: chex.Array
    own: chex.Array
    real: chex.Array
    classes: chex.Array


class Family(NamedTuple):
    """Models of one kind.

    Attributes:
        name: of it.
        space: ``(kind) -> space`` of its hyperparameters.
        portfolio: ``(kind) -> [hyperparameters]`` that are tried first.
        fit: ``(key, hparams, data, task) -> fitted``: hyperparameters are arrays ``[M]`` and what
            was fitted is a dict of arrays ``[M, F, ...]``.
        predict: ``(fitted, x f32[F, N, D], data, task) -> f32[M, F, N, outputs]``: logits of the
            classes (of two classes the second's) or numbers; ``data`` is what it was fitted on.
        operations: ``(rows, columns, task) -> float``, of fitting one member, about.
        population: members of a round.
        transform: of the features, one of ``preprocessing.TRANSFORMS``.
        kinds: of tasks that it is for.
        rows: the most rows that it is for.
        columns: the most columns of features.
        keeps_data: whether it predicts by the data that it was fitted on.
    """

    name: str
    space: Callable[[str], PyTree]
    portfolio: Callable[[str], list[HParams]]
    fit: Callable[[Key, HParams, Data, Task], PyTree]
    predict: Callable[[PyTree, chex.Array, Data, Task], chex.Array]
    operations: Callable[[int, int, Task], float]
    population: int = 8
    transform: str = "standard"
    kinds: tuple[str, ...] = KINDS
    rows: int = 1 << 20
    columns: int = 1 << 12
    keeps_data: bool = False


def data_of(table: Table, x: chex.Array, real: chex.Array, task: Task) -> Data:
    """What a family is fitted on, of a padded table and its features."""
    folds = jnp.arange(task.folds)[:, None]
    own = jnp.where(table.fold == folds, table.weight, 0.0)
    return Data(x, table.y, fold_weights(table, task.folds), own, real, table.classes)
