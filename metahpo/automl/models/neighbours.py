"""The nearest neighbours."""

import chex
import jax
import jax.numpy as jnp

import metahpo.space as spaces
from metahpo.automl.models.family import Data, Family, Task
from metahpo.base import HParams, Key, PyTree

MOST = 64
"""Neighbours; they are found once for the whole population."""
_ROWS = 512  # whose distances to all others are held at once


def space(kind: str) -> PyTree:
    """How many, how fast their weight falls with the distance, and how much the prior counts."""
    del kind
    return {
        "neighbours": spaces.Int(1, MOST, log=True),
        "power": spaces.Float(0.0, 3.0),
        "prior": spaces.Float(1e-2, 10.0, log=True),
    }


def portfolio(kind: str) -> list[HParams]:
    """Sixteen, weighted by the inverse of their distance."""
    del kind
    return [{"neighbours": 16, "power": 1.0, "prior": 1.0}]


def fit(key: Key, hparams: HParams, data: Data, task: Task) -> PyTree:
    """Nothing but the hyperparameters: the data are the model."""
    del key
    return {
        name: jnp.broadcast_to(jnp.asarray(value)[:, None], (len(value), len(data.weight)))
        for name, value in hparams.items()
    }


def predict(fitted: PyTree, x: chex.Array, data: Data, task: Task) -> chex.Array:
    """Log chances of the classes, or weighted means; the prior counts as so many neighbours."""
    target = data.y[:, None].astype(x.dtype)
    if task.kind != "regression":
        target = jax.nn.one_hot(data.y, max(2, task.outputs), dtype=x.dtype)
    size = min(_ROWS, x.shape[1])

    def fold(part: tuple) -> chex.Array:
        x, known, weight, own = part
        square = jnp.where(weight > 0, (known**2).sum(1), jnp.inf)
        prior = weight @ target / jnp.maximum(weight.sum(), 1e-7)

        def chunk(rows: chex.Array) -> chex.Array:
            apart = (rows**2).sum(1, keepdims=True) + square - 2 * rows @ known.T
            near, place = jax.lax.top_k(-apart, min(MOST, len(known)))
            return _averaged(-near, weight[place], target[place], prior, own)

        out = jax.lax.map(chunk, x.reshape(-1, size, x.shape[1]))  # f32[chunks, M, rows, P]
        return jnp.swapaxes(out, 0, 1).reshape(out.shape[1], len(x), -1)

    swapped = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), fitted)
    out = jax.lax.map(fold, (x, data.x, data.weight, swapped))
    out = jnp.swapaxes(out, 0, 1)
    if task.kind == "regression":
        return out
    logits = jnp.log(jnp.maximum(out, 1e-6))
    if task.kind == "binary":
        return logits[..., 1:] - logits[..., :1]
    return jnp.where(data.classes, logits, -1e9)


def _averaged(
    apart: chex.Array, weight: chex.Array, target: chex.Array, prior: chex.Array, own: PyTree
) -> chex.Array:
    """``f32[M, rows, P]`` of neighbours ``f32[rows, MOST, ...]``, the nearest first."""
    there = jnp.isfinite(apart) & (weight > 0)
    distance = jnp.sqrt(jnp.maximum(jnp.where(there, apart, 1.0), 0.0))
    # In units of the farthest, so that no unit matters; the least is far from a division by 0.
    unit = distance / jnp.maximum(distance.max(1, keepdims=True), 1e-7)

    def member(h: HParams) -> chex.Array:
        among = there & (jnp.arange(apart.shape[1]) < h["neighbours"])
        each = jnp.where(among, weight * jnp.maximum(unit, 1e-3) ** -h["power"], 0.0)
        total = each.sum(1, keepdims=True)
        # The prior counts as neighbours of the mean weight.
        share = h["prior"] / (h["prior"] + among.sum(1, keepdims=True))
        mean = jnp.einsum("rk,rkp->rp", each, target) / jnp.maximum(total, 1e-7)
        return jnp.where(total > 0, share * prior + (1 - share) * mean, prior)

    return jax.lax.map(member, own)


def operations(rows: int, columns: int, task: Task) -> float:
    """A member's share of the distances."""
    return task.folds * rows * rows * (2.0 * columns + 8) / 8


neighbours = Family(
    "neighbours",
    space,
    portfolio,
    fit,
    predict,
    operations,
    transform="clipped",
    rows=1 << 14,
    keeps_data=True,
)
"""Weighted means of the nearest rows."""
