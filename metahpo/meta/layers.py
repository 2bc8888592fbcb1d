"""Dense layers, an LSTM cell and attention as functions of their weights alone.

A network's structure is read off its weights, so whoever has a state can predict with it; types
follow the inputs that the weights are drawn for.
"""

from typing import TypedDict

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key


class Dense(TypedDict):
    """``x @ kernel + bias``, f[i, o] and f[o]."""

    kernel: chex.Array
    bias: chex.Array


def init_dense(key: Key, inputs: int, outputs: int, dtype: chex.ArrayDType) -> Dense:
    """LeCun normal weights and zero biases."""
    kernel = jax.nn.initializers.lecun_normal()(key, (inputs, outputs), dtype)
    return {"kernel": kernel, "bias": jnp.zeros(outputs, dtype)}


def dense(layer: Dense, x: chex.Array) -> chex.Array:
    """Maps f[..., i] to f[..., o]."""
    return x @ layer["kernel"] + layer["bias"]


def init_mlp(key: Key, widths: tuple[int, ...], dtype: chex.ArrayDType) -> list[Dense]:
    """Layers from ``widths[0]`` inputs to ``widths[-1]`` outputs."""
    keys = jax.random.split(key, len(widths) - 1)
    return [
        init_dense(key, inputs, outputs, dtype)
        for key, inputs, outputs in zip(keys, widths[:-1], widths[1:], strict=True)
    ]


def mlp(layers: list[Dense], x: chex.Array) -> chex.Array:
    """Dense layers with ReLU between them."""
    for layer in layers[:-1]:
        x = jax.nn.relu(dense(layer, x))
    return dense(layers[-1], x)


def lstm(
    layer: Dense, x: chex.Array, hidden: chex.Array, cell: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """One step of an LSTM: ``(hidden, cell)`` f[..., c] from ``Dense`` of ``[x, hidden]`` to 4 c.

    Gates in the order input, forget, output, candidate; the forget gate's bias has 1 added
    (Jozefowicz et al. 2015).
    """
    gates = dense(layer, jnp.concatenate([x, hidden], axis=-1))
    enter, forget, leave, candidate = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(forget + 1) * cell + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
    return jax.nn.sigmoid(leave) * jnp.tanh(cell), cell


def weighted_scores(scores: chex.Array, weight: chex.Array | None) -> chex.Array:
    """Scores f[..., n] whose softmax is that of a set in which item i is there weight[i] times."""
    if weight is None:
        return scores
    weight = jnp.asarray(weight).astype(scores.dtype)
    there = weight > 0
    return jnp.where(there, scores + jnp.log(jnp.where(there, weight, 1)), -jnp.inf)


def attention(
    queries: chex.Array,
    keys: chex.Array,
    values: chex.Array,
    mask: chex.Array | None = None,
    weight: chex.Array | None = None,
) -> chex.Array:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1).

    Args:
        queries: ``f[m, ..., k]``; axes between the first and the last are heads.
        keys: ``f[n, ..., k]``.
        values: ``f[n, ..., v]``.
        mask: ``bool[m, n]``, what may be looked at; every row needs a True.
        weight: ``f[n]``, how often each key counts; all once without.

    Returns:
        ``f[m, ..., v]``.
    """
    scores = jnp.einsum("m...k,n...k->...mn", queries, keys) / queries.shape[-1] ** 0.5
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    scores = weighted_scores(scores, weight)
    return jnp.einsum("...mn,n...v->m...v", jax.nn.softmax(scores, axis=-1), values)
