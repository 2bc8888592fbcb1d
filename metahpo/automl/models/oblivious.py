"""Oblivious trees: all leaves of a level are split alike, so a tree is a table of values.

Members and folds share the columns and the quantiles among which a level may choose; the sums that
decide between them are then one matrix product for the whole population.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo.automl.preprocessing import quantiles
from metahpo.base import Key, PyTree

BINS = 31
"""Quantiles of a column that are thresholds."""
_ROWS = 8192  # that are summed at once


class Trees(NamedTuple):
    """Trees of every fold and member; with leading axes for several.

    Attributes:
        feature: ``i32[L, F, M]``.
        threshold: ``f32[L, F, M]``; above it a row goes to the right, infinite where all stay left.
        value: ``f32[F, M, 2 ** L, outputs]``.
    """

    feature: chex.Array
    threshold: chex.Array
    value: chex.Array


class Splits(NamedTuple):
    """Where columns may be split.

    Attributes:
        columns: ``f32[F, D, N]``.
        thresholds: ``f32[F, BINS, D]``.
        order: ``i32[D]``, the real columns first.
        count: ``i32[]`` of them.
    """

    columns: chex.Array
    thresholds: chex.Array
    order: chex.Array
    count: chex.Array


def splits(x: chex.Array, weight: chex.Array, real: chex.Array) -> Splits:
    """Thresholds of each fold, at quantiles of the rows that it trains on."""
    at = np.arange(1, BINS + 1) / (BINS + 1)
    thresholds = jax.vmap(lambda x, w: quantiles(x, w > 0, at))(x, weight)
    return Splits(jnp.swapaxes(x, 1, 2), thresholds, jnp.argsort(~real), jnp.maximum(real.sum(), 1))


def grow(
    key: Key,
    where: Splits,
    gradient: chex.Array,
    hessian: chex.Array,
    penalty: chex.Array,
    depth: chex.Array,
    levels: int,
    candidates: int,
) -> tuple[Trees, chex.Array]:
    """A tree of every fold and member, greedily, level by level.

    Args:
        key: of the candidates, which all members share.
        where: columns may be split.
        gradient: ``f32[F, M, outputs, N]``, 0 of rows that do not train.
        hessian: the same.
        penalty: ``f32[M]``, added to the sum of a leaf's hessians.
        depth: ``i32[M]``, levels that split; the others leave everything where it is.
        levels: the most.
        candidates: columns with thresholds that a level chooses from.

    Returns:
        The trees, and ``i32[F, M, N]``, the leaf of each row; values are Newton steps.
    """
    folds, members, outputs, n = gradient.shape
    sums = jnp.concatenate([gradient, hessian], axis=2)  # f32[F, M, 2 O, N]
    leaf = jnp.zeros((folds, members, n), jnp.int32)
    total = sums.sum(-1)[:, :, None]  # f32[F, M, leaves, 2 O]
    features, thresholds = [], []
    for level, own_key in enumerate(jax.random.split(key, levels)):
        u = jax.random.uniform(own_key, (2, candidates))
        place = jnp.minimum((u[0] * where.count).astype(int), where.count - 1)
        feature = where.order[place]
        row = jnp.minimum((u[1] * BINS).astype(int), BINS - 1)
        threshold = where.thresholds[:, row, feature]  # f32[F, K]
        right = (where.columns[:, feature] > threshold[..., None]).astype(gradient.dtype)
        split = level < depth

        def chosen(
            leaf: chex.Array = leaf, total: chex.Array = total, right: chex.Array = right
        ) -> tuple[chex.Array, chex.Array]:
            sums_right = _by_leaf(sums, leaf, right, total.shape[2])
            gain = _gain(sums_right, outputs, penalty) + _gain(
                total[..., None] - sums_right, outputs, penalty
            )
            best = jnp.argmax(gain, axis=-1).astype(jnp.int32)  # i32[F, M]
            index = best[:, :, None, None, None]
            return best, jnp.take_along_axis(sums_right, index, axis=-1)[..., 0]

        best, to_right = jax.lax.cond(
            split.any(),
            chosen,
            lambda total=total: (jnp.zeros((folds, members), jnp.int32), jnp.zeros_like(total)),
        )
        to_right = jnp.where(split[:, None, None], to_right, 0.0)
        total = jnp.stack([total - to_right, to_right], axis=3).reshape(
            folds, members, -1, 2 * outputs
        )
        side = jnp.take_along_axis(right, best[..., None], axis=1)
        leaf = 2 * leaf + jnp.where(split[:, None], side, 0.0).astype(jnp.int32)
        features.append(feature[best])
        own = jnp.take_along_axis(threshold, best, axis=1)
        thresholds.append(jnp.where(split, own, jnp.inf))
    value = -total[..., :outputs] / (total[..., outputs:] + penalty[:, None, None])
    return Trees(jnp.stack(features), jnp.stack(thresholds), value), leaf


def _by_leaf(sums: chex.Array, leaf: chex.Array, right: chex.Array, leaves: int) -> chex.Array:
    """``f32[F, M, leaves, 2 O, K]``: sums over the rows of a leaf that a candidate sends right."""
    folds, members, width, n = sums.shape
    size = min(n, _ROWS)

    def chunk(total: chex.Array, start: chex.Array) -> tuple[chex.Array, None]:
        sums_, leaf_, right_ = (
            jax.lax.dynamic_slice_in_dim(a, start, size, axis=-1) for a in (sums, leaf, right)
        )
        among = leaf_[:, :, None] == jnp.arange(leaves)[:, None]  # bool[F, M, leaves, rows]
        spread = jnp.where(among[:, :, :, None], sums_[:, :, None], 0.0)
        own = jnp.einsum("fan,fkn->fak", spread.reshape(folds, -1, size), right_)
        return total + own, None

    nothing = jnp.zeros((folds, members * leaves * width, right.shape[1]), sums.dtype)
    if size == n:
        found, _ = chunk(nothing, jnp.zeros((), int))
    else:
        found, _ = jax.lax.scan(chunk, nothing, jnp.arange(0, n, size))
    return found.reshape(folds, members, leaves, width, -1)


def _gain(sums: chex.Array, outputs: int, penalty: chex.Array) -> chex.Array:
    """``f32[F, M, K]``: what leaves with such sums take off the loss, twice."""
    gradient, hessian = sums[:, :, :, :outputs], sums[:, :, :, outputs:]
    return (gradient**2 / (hessian + penalty[:, None, None, None])).sum((2, 3))


def leaf_of(trees: Trees, columns: chex.Array) -> chex.Array:
    """``i32[F, M, N]``: the leaf of each row of ``columns f32[F, D, N]`` in one tree."""
    leaf = jnp.zeros((), jnp.int32)
    for feature, threshold in zip(trees.feature, trees.threshold, strict=True):
        own = jnp.take_along_axis(columns, feature[..., None], axis=1)
        leaf = 2 * leaf + (own > threshold[..., None])
    return leaf


def values_of(value: chex.Array, leaf: chex.Array) -> chex.Array:
    """``f32[F, M, N, outputs]``: the values ``f32[F, M, leaves, outputs]`` of rows."""
    return jnp.take_along_axis(value, leaf[..., None], axis=2)


def total(fitted: PyTree, x: chex.Array) -> chex.Array:
    """``f32[M, F, N, outputs]``: the sum of the values of all trees.

    Args:
        fitted: ``feature`` and ``threshold`` ``[M, F, trees, L]``, ``value``
            ``f32[M, F, trees, 2 ** L, outputs]``.
        x: ``f32[F, N, D]``.
    """
    columns = jnp.swapaxes(x, 1, 2)
    trees = Trees(
        jnp.transpose(fitted["feature"], (2, 3, 1, 0)),
        jnp.transpose(fitted["threshold"], (2, 3, 1, 0)),
        jnp.transpose(fitted["value"], (2, 1, 0, 3, 4)),
    )

    def step(score: chex.Array, tree: Trees) -> tuple[chex.Array, None]:
        return score + values_of(tree.value, leaf_of(tree, columns)), None

    _, folds, members, _, outputs = trees.value.shape
    start = jnp.zeros((folds, members, x.shape[1], outputs), trees.value.dtype)
    return jnp.swapaxes(jax.lax.scan(step, start, trees)[0], 0, 1)
