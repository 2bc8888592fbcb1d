"""Bagged random oblivious trees.

Source: Breiman, "Random forests" (2001); each level of a tree chooses among a few columns and
thresholds that were drawn at random, as in Geurts, Ernst & Wehenkel, "Extremely randomized trees"
(2006).
"""

import chex
import jax
import jax.numpy as jnp

import metahpo.space as spaces
from metahpo.automl.models import oblivious
from metahpo.automl.models.family import Data, Family, Task
from metahpo.automl.models.oblivious import Trees
from metahpo.base import HParams, Key, PyTree

TREES = 100
LEVELS = 7
CANDIDATES = 16
_LEAST = 1e-4  # chance of a class


def space(kind: str) -> PyTree:
    """How deep trees are, and how many rows the mean of all counts as in a leaf."""
    del kind
    return {"depth": spaces.Int(3, LEVELS), "penalty": spaces.Float(0.1, 10.0, log=True)}


def portfolio(kind: str) -> list[HParams]:
    """Deep ones."""
    del kind
    return [{"depth": LEVELS, "penalty": 0.5}]


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
    """Trees of bootstrap samples, which all members share.

    A row is in a sample as often as a Poisson variable of mean 1 says (Oza & Russell 2001).

    Returns:
        ``base f32[M, F, outputs]``, the mean of all; ``feature`` and ``threshold``
        ``[M, F, trees, levels]``; ``value f32[M, F, trees, 2 ** levels, outputs]``, what is added.
    """
    members, n = len(hparams["depth"]), data.x.shape[1]
    where = oblivious.splits(data.x, data.weight, data.real)
    target = _target(data, task)
    total = jnp.maximum(data.weight.sum(1), 1e-7)
    base = jnp.einsum("fn,no->fo", data.weight, target) / total[:, None]
    wide = (task.folds, members, task.outputs, n)
    away = jnp.broadcast_to((base[:, :, None] - target.T)[:, None], wide)

    def tree(t: chex.Array) -> Trees:
        own = jax.random.fold_in(key, t)
        often = jax.random.poisson(jax.random.fold_in(own, 1), 1.0, (n,))
        weight = (data.weight * often)[:, None, None]
        grown, _ = oblivious.grow(
            own,
            where,
            away * weight,
            jnp.broadcast_to(weight, wide),
            hparams["penalty"],
            hparams["depth"],
            levels,
            candidates,
        )
        return grown

    grown = jax.lax.map(tree, jnp.arange(trees))
    return {
        "base": jnp.broadcast_to(base, (members, *base.shape)),
        "feature": jnp.transpose(grown.feature, (3, 2, 0, 1)),
        "threshold": jnp.transpose(grown.threshold, (3, 2, 0, 1)),
        "value": jnp.transpose(grown.value, (2, 1, 0, 3, 4)),
    }


def predict(fitted: PyTree, x: chex.Array, data: Data, task: Task) -> chex.Array:
    """The logits of the mean chances, or the mean of the numbers."""
    mean = fitted["base"][:, :, None] + oblivious.total(fitted, x) / fitted["value"].shape[2]
    if task.kind == "regression":
        return mean
    if task.kind == "binary":
        p = jnp.clip(mean, _LEAST, 1 - _LEAST)
        return jnp.log(p) - jnp.log1p(-p)
    return jnp.where(data.classes, jnp.log(jnp.maximum(mean, _LEAST)), -1e9)


def _target(data: Data, task: Task) -> chex.Array:
    """``f32[N, outputs]``."""
    if task.kind == "multiclass":
        return jax.nn.one_hot(data.y, task.outputs, dtype=data.x.dtype)
    return data.y[:, None].astype(data.x.dtype)


def operations(rows: int, columns: int, task: Task) -> float:
    """Of the sums, for trees of a middling depth."""
    del columns
    return task.folds * TREES * 2.0 * rows * 2 * task.outputs * CANDIDATES * 2 ** (LEVELS - 1)


forest = Family("forest", space, portfolio, fit, predict, operations, population=4, transform="raw")
"""Bagged random trees."""
