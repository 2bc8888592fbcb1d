"""Gradient boosting of oblivious trees, with early stopping from one fit.

Source: Friedman, "Greedy function approximation" (2001), by Newton steps as in Chen & Guestrin
(2016), on trees as in Prokhorenkova et al. (2018).
"""

import chex
import jax
import jax.numpy as jnp

import metahpo.space as spaces
from metahpo.automl.models import oblivious
from metahpo.automl.models.family import Data, Family, Task
from metahpo.automl.models.oblivious import Trees
from metahpo.base import HParams, Key, PyTree

TREES = 200
LEVELS = 6
CANDIDATES = 32


def space(kind: str) -> PyTree:
    """The rate, how deep trees are, their penalty, and the share of rows that each sees."""
    del kind
    return {
        "rate": spaces.Float(0.03, 0.3, log=True),
        "depth": spaces.Int(2, LEVELS),
        "penalty": spaces.Float(0.3, 30.0, log=True),
        "rows": spaces.Float(0.5, 1.0),
    }


def portfolio(kind: str) -> list[HParams]:
    """As gradient boosting is commonly begun with."""
    del kind
    return [{"rate": 0.1, "depth": 5, "penalty": 3.0, "rows": 0.8}]


def fit(
    key: Key,
    hparams: HParams,
    data: Data,
    task: Task,
    *,
    trees: int = TREES,
    levels: int = LEVELS,
    candidates: int = CANDIDATES,
) -> dict[str, chex.Array]:
    """Grows all trees, and keeps those up to the lowest validation loss over all folds together.

    Returns:
        ``base f32[M, F, outputs]``, before the first tree; ``feature`` and ``threshold``
        ``[M, F, trees, levels]``; ``value f32[M, F, trees, 2 ** levels, outputs]``, 0 behind the
        last tree; ``trees i32[M, F]``, how many there are, the same in all folds.
    """
    members = len(hparams["rate"])
    where = oblivious.splits(data.x, data.weight, data.real)
    base = jax.vmap(lambda w: _base(data, w, task))(data.weight)  # f32[F, O]
    n = data.x.shape[1]
    start = jnp.broadcast_to(base[:, None, None], (task.folds, members, n, task.outputs))
    rate = hparams["rate"][:, None, None]

    def step(score: chex.Array, t: chex.Array) -> tuple[chex.Array, tuple[Trees, chex.Array]]:
        own = jax.random.fold_in(key, t)
        gradient, hessian = gradients(score, data, task)
        seen = jax.random.uniform(jax.random.fold_in(own, 1), (n,)) < hparams["rows"][:, None]
        weight = (data.weight[:, None] * seen)[:, :, None]  # f32[F, M, 1, N]
        tree, leaf = oblivious.grow(
            own,
            where,
            jnp.moveaxis(gradient, 3, 2) * weight,
            jnp.moveaxis(hessian, 3, 2) * weight,
            hparams["penalty"],
            hparams["depth"],
            levels,
            candidates,
        )
        tree = tree._replace(value=tree.value * rate)
        score = score + oblivious.values_of(tree.value, leaf)
        return score, (tree, _validation(score, data, task))

    _, (grown, losses) = jax.lax.scan(step, start, jnp.arange(trees))
    count = jnp.argmin(losses, axis=0) + 1  # i32[M]
    kept = jnp.arange(trees)[:, None] < count
    value = jnp.where(kept[:, None, :, None, None], grown.value, 0.0)
    return {
        "base": jnp.broadcast_to(base, (members, *base.shape)),
        "feature": jnp.transpose(grown.feature, (3, 2, 0, 1)),
        "threshold": jnp.transpose(grown.threshold, (3, 2, 0, 1)),
        "value": jnp.transpose(value, (2, 1, 0, 3, 4)),
        "trees": jnp.broadcast_to(count[:, None], (members, task.folds)),
    }


def predict(fitted: PyTree, x: chex.Array, data: Data, task: Task) -> chex.Array:
    """The sum of the trees."""
    score = fitted["base"][:, :, None] + oblivious.total(fitted, x)
    return jnp.where(data.classes, score, -1e9) if task.outputs > 1 else score


def gradients(score: chex.Array, data: Data, task: Task) -> tuple[chex.Array, chex.Array]:
    """Of the loss of every row by its scores ``f32[..., N, outputs]``, and the second ones."""
    if task.kind == "regression":
        return score - data.y[:, None], jnp.ones_like(score)
    if task.kind == "binary":
        p = jax.nn.sigmoid(score)
        return p - data.y[:, None], p * (1 - p)
    p = jax.nn.softmax(jnp.where(data.classes, score, -1e9))
    return p - jax.nn.one_hot(data.y, task.outputs), p * (1 - p)


def _validation(score: chex.Array, data: Data, task: Task) -> chex.Array:
    """``f32[M]``: the loss of all folds on their own rows, of scores ``f32[F, M, N, outputs]``."""
    if task.kind == "regression":
        rows = (score[..., 0] - data.y) ** 2
    elif task.kind == "binary":
        rows = jax.nn.softplus(score[..., 0]) - data.y * score[..., 0]
    else:
        logits = jax.nn.log_softmax(jnp.where(data.classes, score, -1e9))
        rows = -(logits * jax.nn.one_hot(data.y, task.outputs)).sum(-1)
    return jnp.einsum("fmn,fn->m", rows, data.own) / data.own.sum()


def _base(data: Data, weight: chex.Array, task: Task) -> chex.Array:
    """The best constant of a fold."""
    total = jnp.maximum(weight.sum(), 1e-7)
    if task.kind == "regression":
        return (weight @ data.y / total)[None]
    if task.kind == "binary":
        p = jnp.clip(weight @ data.y / total, 1e-4, 1 - 1e-4)
        return jnp.log(p / (1 - p))[None]
    share = weight @ jax.nn.one_hot(data.y, task.outputs) / total
    return jnp.log(jnp.maximum(share, 1e-4))


def operations(rows: int, columns: int, task: Task) -> float:
    """Of the sums, for trees of a middling depth."""
    del columns
    return task.folds * TREES * 2.0 * rows * 2 * task.outputs * CANDIDATES * 2 ** (LEVELS - 1)


boosting = Family("boosting", space, portfolio, fit, predict, operations, transform="raw")
"""Boosted oblivious trees."""
