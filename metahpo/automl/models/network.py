"""A dense network with periodic embeddings of its inputs.

Source: Gorishniy, Rubachev & Babenko, "On embeddings for numerical features" (2022); Holzmüller,
Grinsztajn & Steinwart, "Better by default" (2024): robust scaling with smooth clipping, embeddings
of small frequencies beside the input itself, AdamW with a schedule.
"""

import math

import chex
import jax
import jax.numpy as jnp

import metahpo.space as spaces
from metahpo.automl.models.family import Data, Family, Task
from metahpo.base import HParams, Key, PyTree

WIDTH = 64
FREQUENCIES = 8
EMBEDDED = 3
"""Numbers that stand for an input beside itself."""
EPOCHS = 32
LOOKS = 16
"""Times at which the validation loss is looked at; the best of them is kept."""
_ROWS = 2048  # that are predicted at once
_BETAS = (0.9, 0.95)


def space(kind: str) -> PyTree:
    """The rate, weight decay, dropout, and the scale of the frequencies."""
    del kind
    return {
        "rate": spaces.Float(2e-3, 3e-2, log=True),
        "decay": spaces.Float(1e-3, 1.0, log=True),
        "dropout": spaces.Float(0.0, 0.5),
        "frequency": spaces.Float(0.02, 1.0, log=True),
    }


def portfolio(kind: str) -> list[HParams]:
    """A middling one."""
    del kind
    return [{"rate": 1e-2, "decay": 0.03, "dropout": 0.15, "frequency": 0.1}]


def steps_of(rows: int) -> tuple[int, int]:
    """Rows of a batch and updates, for so many rows."""
    batch = 128 if rows <= 4096 else 256
    return batch, LOOKS * max(16, -(-EPOCHS * rows // batch // LOOKS))


def fit(key: Key, hparams: HParams, data: Data, task: Task) -> PyTree:
    """Weights ``f32[M, F, ...]``; folds of a member start alike and see the same batches.

    Of several times of the training the one is kept at which the loss of all folds on their own
    rows is lowest.
    """
    members = len(hparams["rate"])
    batch, steps = steps_of(data.x.shape[1])
    start = jax.vmap(lambda key, h: _init(key, h, data, task))(
        jax.random.split(jax.random.fold_in(key, 0), members), hparams
    )
    weights = jax.tree.map(
        lambda a: jnp.broadcast_to(a[:, None], (members, task.folds, *a.shape[1:])), start
    )
    zeros = jax.tree.map(jnp.zeros_like, weights)
    there = (data.weight + data.own).max(0) > 0
    order, count = jnp.argsort(~there), there.sum()
    decayed = {name: float(name.startswith("w")) for name in weights}

    def loss(
        w: PyTree, h: HParams, x: chex.Array, y: chex.Array, own: chex.Array, key: Key
    ) -> chex.Array:
        kept = jax.random.uniform(key, (2, len(x), WIDTH)) >= h["dropout"]
        out = _apply(w, x, kept / (1 - h["dropout"]))
        return (own * _loss(out, y, data, task)).sum() / jnp.maximum(own.sum(), 1e-7)

    of_folds = jax.vmap(jax.grad(loss), in_axes=(0, None, 0, None, 0, None))
    of_members = jax.vmap(of_folds, in_axes=(0, 0, None, None, None, None))

    def step(carry: tuple, t: chex.Array) -> tuple[tuple, None]:
        w, first, second = carry
        own = jax.random.fold_in(key, t + 1)
        rows = order[(jax.random.uniform(own, (batch,)) * count).astype(int)]
        gradient = of_members(
            w, hparams, data.x[:, rows], data.y[rows], data.weight[:, rows],
            jax.random.fold_in(own, 1),
        )  # fmt: skip
        a, b = _BETAS
        first = jax.tree.map(lambda m, g: a * m + (1 - a) * g, first, gradient)
        second = jax.tree.map(lambda v, g: b * v + (1 - b) * g**2, second, gradient)
        done = (t + 1) / steps
        rate = hparams["rate"] * jnp.minimum(1.0, done * 10) * (1 + jnp.cos(math.pi * done)) / 2

        def moved(p: chex.Array, m: chex.Array, v: chex.Array, decay: float) -> chex.Array:
            shape = (-1, *[1] * (p.ndim - 1))
            direction = (m / (1 - a ** (t + 1))) / (jnp.sqrt(v / (1 - b ** (t + 1))) + 1e-8)
            shrunk = decay * hparams["decay"].reshape(shape) * p
            return p - rate.reshape(shape) * (direction + shrunk)

        return (jax.tree.map(moved, w, first, second, decayed), first, second), None

    def look(carry: tuple, ts: chex.Array) -> tuple[tuple, None]:
        state, best, lowest = carry
        state, _ = jax.lax.scan(step, state, ts)
        value = _validation(predict(state[0], data.x, data, task), data, task)  # f32[M]
        better = value < lowest

        def kept(new: chex.Array, old: chex.Array) -> chex.Array:
            return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return (state, jax.tree.map(kept, state[0], best), jnp.minimum(value, lowest)), None

    start_of_looks = ((weights, zeros, zeros), weights, jnp.full(members, jnp.inf))
    (_, best, _), _ = jax.lax.scan(look, start_of_looks, jnp.arange(steps).reshape(LOOKS, -1))
    return best


def predict(fitted: PyTree, x: chex.Array, data: Data, task: Task) -> chex.Array:
    """Logits, or numbers."""
    whole, size = jnp.ones((2, 1, WIDTH)), min(_ROWS, x.shape[1])
    chunks = jnp.moveaxis(x.reshape(len(x), -1, size, x.shape[2]), 1, 0)  # f[chunks, F, rows, D]
    of_folds = jax.vmap(lambda w, x: _apply(w, x, whole))
    out = jax.lax.map(lambda w: jax.lax.map(lambda x: of_folds(w, x), chunks), fitted)
    out = jnp.moveaxis(out, 1, 2).reshape(out.shape[0], len(x), x.shape[1], -1)
    return jnp.where(data.classes, out, -1e9) if task.outputs > 1 else out


def _init(key: Key, h: HParams, data: Data, task: Task) -> PyTree:
    d = data.x.shape[-1]
    keys = jax.random.split(key, 6)
    wide = d * (EMBEDDED + 1)
    # Padding adds nothing, and the scale is that of the real inputs.
    real = jnp.maximum(data.real.sum(), 1) * (EMBEDDED + 1)

    def dense(key: Key, rows: int, columns: int, fan: chex.Array | int) -> chex.Array:
        return jax.random.normal(key, (rows, columns)) * jnp.sqrt(2.0 / fan)

    return {
        "frequency": h["frequency"] * jax.random.normal(keys[0], (d, FREQUENCIES)),
        "phase": jax.random.uniform(keys[1], (d, FREQUENCIES)),
        "embed": jax.random.normal(keys[2], (d, FREQUENCIES, EMBEDDED)) / FREQUENCIES**0.5,
        "w1": dense(keys[3], wide, WIDTH, real),
        "b1": jnp.zeros(WIDTH),
        "w2": dense(keys[4], WIDTH, WIDTH, WIDTH),
        "b2": jnp.zeros(WIDTH),
        "w3": dense(keys[5], WIDTH, task.outputs, WIDTH) * 0.1,
        "b3": jnp.zeros(task.outputs),
        "real": data.real.astype(data.x.dtype),
    }


def _apply(w: PyTree, x: chex.Array, kept: chex.Array) -> chex.Array:
    wave = jnp.cos(2 * math.pi * (x[:, :, None] * w["frequency"] + w["phase"]))
    embedded = jnp.einsum("ndk,dke->nde", wave, w["embed"])
    seen = jnp.concatenate([x[..., None], embedded], axis=2)
    seen = seen * jax.lax.stop_gradient(w["real"])[:, None]
    hidden = jax.nn.silu(seen.reshape(len(x), -1) @ w["w1"] + w["b1"]) * kept[0]
    hidden = jax.nn.silu(hidden @ w["w2"] + w["b2"]) * kept[1]
    return hidden @ w["w3"] + w["b3"]


def _loss(out: chex.Array, y: chex.Array, data: Data, task: Task) -> chex.Array:
    if task.kind == "regression":
        return (out[:, 0] - y) ** 2
    if task.kind == "binary":
        return jax.nn.softplus(out[:, 0]) - y * out[:, 0]
    logits = jax.nn.log_softmax(jnp.where(data.classes, out, -1e9))
    return -jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]


def _validation(out: chex.Array, data: Data, task: Task) -> chex.Array:
    """``f32[M]``: the loss of outputs ``f32[M, F, N, outputs]`` of all folds on their own rows."""
    rows = jax.vmap(jax.vmap(lambda each: _loss(each, data.y, data, task)))(out)
    return jnp.einsum("mfn,fn->m", rows, data.own) / data.own.sum()


def operations(rows: int, columns: int, task: Task) -> float:
    """Of the products, forward and backward."""
    batch, steps = steps_of(rows)
    wide = columns * (EMBEDDED + 1)
    each = wide * WIDTH + WIDTH**2 + WIDTH * task.outputs + columns * FREQUENCIES * 12
    return task.folds * steps * batch * 6.0 * each


network = Family(
    "network", space, portfolio, fit, predict, operations, population=4, transform="clipped"
)
"""Dense networks."""
