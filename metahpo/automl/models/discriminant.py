"""Regularised discriminant analysis: naive Bayes, LDA, QDA and what lies between them.

Source: Friedman, "Regularized discriminant analysis" (1989).
"""

import chex
import jax
import jax.numpy as jnp

import metahpo.space as spaces
from metahpo.automl.models.family import Data, Family, Task
from metahpo.base import HParams, Key, PyTree


def space(kind: str) -> PyTree:
    """How covariances are drawn to each other, to their diagonals, and to the identity."""
    del kind
    return {
        "pooled": spaces.Float(0.0, 1.0),
        "diagonal": spaces.Float(0.0, 1.0),
        "ridge": spaces.Float(1e-4, 1.0, log=True),
        "temperature": spaces.Float(1.0, 10.0, log=True),
    }


def portfolio(kind: str) -> list[HParams]:
    """Nearly linear discriminant analysis."""
    del kind
    return [{"pooled": 0.9, "diagonal": 0.1, "ridge": 0.03, "temperature": 1.5}]


def fit(key: Key, hparams: HParams, data: Data, task: Task) -> PyTree:
    """Of every class, the mean, the inverse of a root of the covariance, and a constant.

    Covariances are those of ``n``, not ``n - 1``.  ``pooled`` 1 is LDA; 0 is QDA, and with
    ``diagonal`` 1 naive Bayes; ``ridge`` is added to the variances.
    """
    del key, task
    classes = jax.nn.one_hot(data.y, _count(data), dtype=data.x.dtype)
    d = data.x.shape[-1]

    def moments(x: chex.Array, weight: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array]:
        own = classes.T * weight
        held = own.sum(1)
        mean = own @ x / jnp.maximum(held, 1e-7)[:, None]

        def spread(k: chex.Array) -> chex.Array:
            apart = x - mean[k]
            return (apart.T * own[k]) @ apart

        return held, mean, jax.lax.map(spread, jnp.arange(len(own)))

    held, mean, spread = jax.vmap(moments)(data.x, data.weight)
    total = held.sum(1)
    covariance = spread / jnp.maximum(held, 1e-7)[..., None, None]
    common = (spread.sum(1) / total[:, None, None])[:, None]
    prior = jnp.log(jnp.maximum(held, 1e-6) / total[:, None])

    def member(h: HParams) -> tuple[chex.Array, chex.Array]:
        mixed = (1 - h["pooled"]) * covariance + h["pooled"] * common
        mixed = jnp.where(jnp.eye(d, dtype=bool), mixed, (1 - h["diagonal"]) * mixed)
        empty = jnp.where(data.real, 0.0, 1.0)  # padding varies not at all
        root = jnp.linalg.cholesky(mixed + jnp.diag(h["ridge"] + empty))
        identity = jnp.broadcast_to(jnp.eye(d, dtype=root.dtype), root.shape)
        inverse = jax.scipy.linalg.solve_triangular(root, identity, lower=True)
        logdet = jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)).sum(-1)
        return inverse, prior - logdet

    inverse, constant = jax.lax.map(member, {k: hparams[k] for k in sorted(hparams)})
    mean = jnp.broadcast_to(mean, (len(inverse), *mean.shape))
    temperature = jnp.broadcast_to(hparams["temperature"][:, None], constant.shape[:2])
    return {"inverse": inverse, "mean": mean, "constant": constant, "temperature": temperature}


def predict(fitted: PyTree, x: chex.Array, data: Data, task: Task) -> chex.Array:
    """Logits, the log densities of the classes divided by the temperature."""

    def one(inverse: chex.Array, mean: chex.Array, constant: chex.Array, x: chex.Array) -> tuple:
        apart = (x - mean) @ inverse.T
        return constant - (apart**2).sum(-1) / 2

    def member(part: PyTree) -> chex.Array:
        of_class = jax.vmap(one, in_axes=(0, 0, 0, None), out_axes=1)
        folds = (part["inverse"], part["mean"], part["constant"], x)
        found = jax.lax.map(lambda fold: of_class(*fold), folds)
        return found / part["temperature"][:, None, None]

    logits = jax.lax.map(member, fitted)
    if task.kind == "binary":
        return logits[..., 1:] - logits[..., :1]
    return jnp.where(data.classes, logits, -1e9)


def operations(rows: int, columns: int, task: Task) -> float:
    """Of the roots and of one row's distances."""
    classes = max(2, task.outputs)
    return task.folds * classes * (2.0 * rows * columns**2 + columns**3)


def _count(data: Data) -> int:
    return max(2, data.classes.shape[0])


discriminant = Family(
    "discriminant",
    space,
    portfolio,
    fit,
    predict,
    operations,
    kinds=("binary", "multiclass"),
    columns=256,
)
"""Naive Bayes, LDA and QDA."""
