"""Ridge and logistic regression on random Fourier features of a Gaussian kernel.

Source: Rahimi & Recht, "Random features for large-scale kernel machines" (2007).
"""

import math

import chex
import jax
import jax.numpy as jnp

import metahpo.space as spaces
from metahpo.automl.models import linear
from metahpo.automl.models.family import Data, Family, Task
from metahpo.base import HParams, Key, PyTree

FEATURES = 128
"""Half of them cosines, half sines, of the same frequencies."""
_ROWS = 2048  # whose features are held at once when predicting


def space(kind: str) -> PyTree:
    """The penalty, a row, and the length over which the kernel falls.

    The length is in units of the distance of two rows that differ by a standard deviation in every
    column.
    """
    del kind
    return {
        "penalty": spaces.Float(1e-5, 1.0, log=True),
        "length": spaces.Float(0.2, 5.0, log=True),
    }


def portfolio(kind: str) -> list[HParams]:
    """A smooth function, weakly penalised."""
    del kind
    return [{"penalty": 3e-3, "length": 1.0}]


def fit(key: Key, hparams: HParams, data: Data, task: Task) -> PyTree:
    """``frequencies f32[M, F, D, FEATURES / 2]``, and ``weights`` as those of linear models."""
    d, members = data.x.shape[-1], len(hparams["length"])
    normal = jax.random.normal(key, (d, FEATURES // 2)) * data.real[:, None]
    unit = hparams["length"] * jnp.sqrt(jnp.maximum(data.real.sum(), 1))
    frequencies = normal / unit[:, None, None]

    def member(part: tuple) -> chex.Array:
        own, penalty = part
        z = jax.vmap(lambda x: features(x, own))(data.x)
        return linear.fit(key, {"penalty": penalty[None]}, data._replace(x=z), task)["weights"][0]

    weights = jax.lax.map(member, (frequencies, hparams["penalty"]))
    each = jnp.broadcast_to(frequencies[:, None], (members, task.folds, *frequencies.shape[1:]))
    return {"frequencies": each, "weights": weights}


def predict(fitted: PyTree, x: chex.Array, data: Data, task: Task) -> chex.Array:
    """Logits, or numbers."""
    size = min(_ROWS, x.shape[1])
    chunks = jnp.moveaxis(x.reshape(len(x), -1, size, x.shape[2]), 1, 0)

    def member(part: PyTree) -> chex.Array:
        def chunk(x: chex.Array) -> chex.Array:
            z = jax.vmap(features)(x, part["frequencies"])
            return linear.predict({"weights": part["weights"][None]}, z, data, task)[0]

        return jax.lax.map(chunk, chunks)

    out = jax.lax.map(member, fitted)  # f32[M, chunks, F, rows, outputs]
    return jnp.moveaxis(out, 1, 2).reshape(out.shape[0], len(x), x.shape[1], -1)


def features(x: chex.Array, frequencies: chex.Array) -> chex.Array:
    """``f[N, FEATURES]``, whose products are about the kernel's values."""
    angle = x @ frequencies
    wave = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    return wave * math.sqrt(1 / frequencies.shape[-1])


def operations(rows: int, columns: int, task: Task) -> float:
    """Those of a linear model of the features."""
    return linear.operations(rows, FEATURES, task) + 2.0 * task.folds * rows * columns * FEATURES


kernel = Family("kernel", space, portfolio, fit, predict, operations, transform="normal")
"""Smooth functions of the ranks."""
