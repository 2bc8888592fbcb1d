"""What models see of a table, learned for every fold from the rows that it trains on."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo.automl.tables.encoder import LEVELS
from metahpo.automl.tables.padding import Rows, Table

SMOOTHING = 10.0
"""Rows that the mean of all counts as, in the mean of a category."""
KNOTS = 65
"""Quantiles between which the map to a normal distribution is linear."""
TRANSFORMS = ("raw", "standard", "clipped", "normal")
"""Values as they are; of mean 0 and variance 1; robustly scaled and smoothly clipped; by ranks."""


class Statistics(NamedTuple):
    """What was learned of a table, for each of ``F`` folds, with ``D`` columns of features.

    Attributes:
        mean: ``f32[F, C]``, of the columns of numbers, which takes the place of missing ones.
        encoded: ``f32[F, F + 1, K, LEVELS + 1, E]``, what stands for a code in rows that validate
            in each fold, and last in those of no fold.
        centre: ``f32[F, D]``.
        scale: ``f32[F, D]``, 0 of padding.
        knots: ``f32[F, KNOTS, D]`` quantiles, of the transform by ranks; otherwise ``KNOTS`` is 0.
    """

    mean: chex.Array
    encoded: chex.Array
    centre: chex.Array
    scale: chex.Array
    knots: chex.Array


def fold_weights(table: Table, folds: int) -> chex.Array:
    """``f32[F, N]``: the weight of each row in the training of each fold; 0 where it validates."""
    own = table.fold == jnp.arange(folds)[:, None]
    return jnp.where(own | (table.fold < 0), 0.0, table.weight)


def learn(table: Table, folds: int, transform: str) -> Statistics:
    """Statistics of the rows that each fold trains on.

    A category becomes the mean of the target among its rows, drawn to the mean of all.  A training
    row's own fold is left out of its mean, so that what it trains on is no better informed than
    what it will meet.

    Args:
        table: padded.
        folds: how many.
        transform: one of ``TRANSFORMS``.
    """
    weights = fold_weights(table, folds)
    there = ~jnp.isnan(table.rows.x)
    x = jnp.where(there, table.rows.x, 0.0)
    known = weights @ there.astype(x.dtype)
    mean = (weights @ x) / jnp.maximum(known, 1e-7)
    encoded = _encoded(table, weights, folds)
    features = _filled(mean, encoded, table.rows, table.fold)
    real = jnp.concatenate([table.columns, jnp.repeat(table.code_columns, encoded.shape[-1])])
    centre, scale, knots = jax.vmap(lambda z, w: _scales(z, w, transform))(features, weights)
    return Statistics(mean, encoded, centre, jnp.where(real, scale, 0.0), knots)


def apply(found: Statistics, rows: Rows, fold: chex.Array | None, transform: str) -> chex.Array:
    """Features ``f32[F, N, D]`` of rows, as each fold sees them.

    Args:
        found: of the training table.
        rows: any rows.
        fold: ``i32[N]`` of the rows of the training table itself; ``None`` of others.
        transform: that the statistics were learned for.
    """
    fold = jnp.full(len(rows.x), -1) if fold is None else fold
    z = _filled(found.mean, found.encoded, rows, fold)
    if transform == "normal":
        return jax.vmap(jax.vmap(_to_normal, in_axes=(1, 1), out_axes=1))(
            z, found.knots
        ) * jnp.sign(found.scale[:, None])
    z = (z - found.centre[:, None]) * found.scale[:, None]
    return z / jnp.sqrt(1 + (z / 3) ** 2) if transform == "clipped" else z


def _encoded(table: Table, weights: chex.Array, folds: int) -> chex.Array:
    """Smoothed means of the target by code, without the fold's own rows and the row's own fold."""
    target = _targets(table)
    own = (table.fold == jnp.arange(folds)[:, None]) * table.weight  # f32[F, N]

    def sums(codes: chex.Array) -> tuple[chex.Array, chex.Array]:
        at = jax.nn.one_hot(codes, LEVELS + 1, dtype=own.dtype)
        each = jnp.einsum("fn,nl,ne->fle", own, at, target, optimize=[(0, 2), (0, 1)])
        return jnp.einsum("fn,nl->fl", own, at), each

    if not table.rows.codes.shape[1]:
        return jnp.zeros((folds, folds + 1, 0, LEVELS + 1, target.shape[1]))
    count, total = jax.lax.map(sums, table.rows.codes.T)  # f32[K, F, L], f32[K, F, L, E]
    count, total = jnp.swapaxes(count, 0, 1), jnp.swapaxes(total, 0, 1)
    prior = (weights @ target) / jnp.maximum(weights.sum(1, keepdims=True), 1e-7)  # f32[F, E]
    out = jnp.concatenate([jnp.eye(folds), jnp.zeros((1, folds))])
    leave = jnp.maximum(jnp.eye(folds)[:, None], out[None])  # [fold, row's fold, left out]
    held = count.sum(0) - jnp.einsum("fgh,hkl->fgkl", leave, count)
    summed = total.sum(0) - jnp.einsum("fgh,hkle->fgkle", leave, total)
    prior = prior[:, None, None, None]
    return (summed + SMOOTHING * prior) / (held[..., None] + SMOOTHING)


def _targets(table: Table) -> chex.Array:
    """``f32[N, E]``: whose means stand for codes; of two classes the second alone."""
    if len(table.classes) == 1:
        return table.y[:, None]
    classes = jax.nn.one_hot(table.y, len(table.classes))
    return classes[:, 1:] if len(table.classes) == 2 else classes


def _filled(mean: chex.Array, encoded: chex.Array, rows: Rows, fold: chex.Array) -> chex.Array:
    """``f32[F, N, D]``: the numbers without gaps, and what stands for codes."""
    folds, others = encoded.shape[:2]
    x = jnp.where(jnp.isnan(rows.x), mean[:, None], rows.x)
    if not rows.codes.shape[1]:
        return x
    at = jnp.where(fold < 0, others - 1, fold)
    columns = jnp.arange(rows.codes.shape[1])
    means = jax.vmap(lambda each: each[at[:, None], columns, rows.codes])(encoded)
    return jnp.concatenate([x, means.reshape(folds, len(at), -1)], axis=2)


def _scales(
    z: chex.Array, weight: chex.Array, transform: str
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Of one fold: centre and factor of every column, and quantiles."""
    none = jnp.zeros((0, z.shape[1]))
    if transform == "raw":
        return jnp.zeros(z.shape[1]), jnp.ones(z.shape[1]), none
    if transform == "normal":
        return (
            jnp.zeros(z.shape[1]),
            jnp.ones(z.shape[1]),
            quantiles(z, weight > 0, np.linspace(0, 1, KNOTS)),
        )
    total = jnp.maximum(weight.sum(), 1e-7)
    mean = weight @ z / total
    deviation = jnp.sqrt(weight @ (z - mean) ** 2 / total)
    if transform == "standard":
        return mean, _inverse(deviation), none
    low, middle, high = quantiles(z, weight > 0, np.array([0.25, 0.5, 0.75]))
    return middle, jnp.where(high > low, _inverse((high - low) / 1.349), _inverse(deviation)), none


def _inverse(scale: chex.Array) -> chex.Array:
    """0 of a constant column, which then says nothing."""
    return jnp.where(scale > 1e-6, 1 / jnp.maximum(scale, 1e-6), 0.0)


def quantiles(z: chex.Array, there: chex.Array, at: np.ndarray) -> chex.Array:
    """``f32[Q, D]`` of the rows that are there, as ``numpy.quantile`` has them.

    Args:
        z: ``f32[N, D]``.
        there: ``bool[N]``.
        at: ``f[Q]`` in [0, 1].
    """
    ordered = jnp.sort(jnp.where(there[:, None], z, jnp.inf), axis=0)
    place = jnp.asarray(at, z.dtype) * jnp.maximum(there.sum() - 1, 0)
    below = jnp.floor(place).astype(int)
    low, high = ordered[below], ordered[jnp.minimum(below + 1, jnp.maximum(there.sum() - 1, 0))]
    return low + (place - below)[:, None] * (high - low)


def _to_normal(z: chex.Array, knots: chex.Array) -> chex.Array:
    """A column by its ranks among the quantiles; the middle of ties."""
    grid = jnp.linspace(0.0, 1.0, KNOTS)
    up = jnp.interp(z, knots, grid)
    down = 1 - jnp.interp(-z, -knots[::-1], grid)
    rank = jnp.clip((up + down) / 2, 0.5 / KNOTS, 1 - 0.5 / KNOTS)
    return jax.scipy.special.ndtri(rank)
