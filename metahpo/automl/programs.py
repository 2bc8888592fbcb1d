"""The compiled programs of a search: one a family and a bucket, with all data as arguments."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

import metahpo.space as spaces
from metahpo.automl import preprocessing
from metahpo.automl.metrics import Metric
from metahpo.automl.models.family import Data, Family, Task, data_of
from metahpo.automl.preprocessing import Statistics
from metahpo.automl.tables.padding import Rows, Table
from metahpo.base import Key, PyTree


class Fitted(NamedTuple):
    """A population that was fitted on all folds.

    Attributes:
        weights: arrays ``[M, F, ...]``, as the family has them.
        statistics: of the features.
        out_of_fold: ``f32[M, N, P]``, each row predicted by those of the fold in which it
            validates: chances of the classes, or numbers ``[M, N, 1]``.
        loss: ``f32[M]``, of these; infinite where it is not finite.
        fold_loss: ``f32[M, F]``, of every fold's rows.
    """

    weights: PyTree
    statistics: Statistics
    out_of_fold: chex.Array
    loss: chex.Array
    fold_loss: chex.Array


@lru_cache(maxsize=256)
def fitting(
    family: Family, task: Task, metric: Metric
) -> Callable[[Key, chex.Array, Table], Fitted]:
    """``(key, unit f32[M, D], table) -> Fitted``: preprocessing, training and judging in one."""
    space = family.space(task.kind)

    def run(key: Key, unit: chex.Array, table: Table) -> Fitted:
        found = preprocessing.learn(table, task.folds, family.transform)
        data = _data(found, table, family, task)
        hparams = jax.vmap(lambda u: spaces.decode(space, u))(unit)
        weights = family.fit(key, hparams, data, task)
        out = _chances(family.predict(weights, data.x, data, task), task)
        own = _own_fold(out, table.fold)
        loss = jax.vmap(lambda p: metric.loss(p, table.y, table.weight, table.classes))(own)
        each = jax.vmap(
            lambda p: jax.vmap(lambda w: metric.loss(p, table.y, w, table.classes))(data.own)
        )(own)
        loss = jnp.where(jnp.isfinite(own).all((1, 2)), loss, jnp.inf)
        return Fitted(weights, found, own, jnp.where(jnp.isnan(loss), jnp.inf, loss), each)

    return jax.jit(run)


@lru_cache(maxsize=256)
def predicting(
    family: Family, task: Task
) -> Callable[[PyTree, Statistics, Table, Rows], chex.Array]:
    """``(weights, statistics, table, rows) -> f32[N, P]``: the mean over members and folds."""

    def run(weights: PyTree, found: Statistics, table: Table, rows: Rows) -> chex.Array:
        x = preprocessing.apply(found, rows, None, family.transform)
        out = family.predict(weights, x, _data(found, table, family, task), task)
        return _chances(out, task).mean((0, 1))

    return jax.jit(run)


def _data(found: Statistics, table: Table, family: Family, task: Task) -> Data:
    x = preprocessing.apply(found, table.rows, table.fold, family.transform)
    width = found.encoded.shape[-1]
    real = jnp.concatenate([table.columns, jnp.repeat(table.code_columns, width)])
    return data_of(table, x, real, task)


def _chances(out: chex.Array, task: Task) -> chex.Array:
    """Chances ``f32[..., P]`` of logits, or numbers ``f32[..., 1]``."""
    if task.kind == "regression":
        return out
    if task.kind == "binary":
        p = jax.nn.sigmoid(out)
        return jnp.concatenate([1 - p, p], axis=-1)
    return jax.nn.softmax(out)


def _own_fold(out: chex.Array, fold: chex.Array) -> chex.Array:
    """``f32[M, N, P]`` of ``f32[M, F, N, P]``."""
    at = jnp.clip(fold, 0)[None, None, :, None]
    return jnp.take_along_axis(out, at, axis=1)[:, 0]
