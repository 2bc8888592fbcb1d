"""Families fitted on small tables, for tests against other implementations."""

import jax
import jax.numpy as jnp
import numpy as np

from metahpo.automl.models import Data, Task


def data(x, y, folds, classes=1, weight=None):
    """All of a table real, the features of every fold the same: ``x`` itself."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    fold = np.arange(len(x)) % folds
    own = jnp.asarray(fold == np.arange(folds)[:, None], x.dtype)
    own = own * (1.0 if weight is None else jnp.asarray(weight))
    whole = jnp.ones_like(own) if weight is None else jnp.broadcast_to(weight, own.shape)
    there = jnp.ones(classes, bool)
    wide = jnp.broadcast_to(x, (folds, *x.shape))
    return Data(wide, y, jnp.where(own > 0, 0.0, whole), own, jnp.ones(x.shape[1], bool), there)


def task(kind, folds, outputs=1):
    return Task(kind, folds, outputs)


def fit_predict(family, hparams, data, task, rows=None):
    """``[M, F, N, outputs]``, of the training rows or of others."""
    hparams = {name: jnp.asarray(value) for name, value in hparams.items()}
    x = data.x if rows is None else jnp.broadcast_to(rows, (task.folds, *rows.shape))

    def run(data, x):
        fitted = family.fit(jax.random.key(0), hparams, data, task)
        return fitted, family.predict(fitted, x, data, task)

    return jax.tree.map(np.asarray, jax.jit(run)(data, x))
