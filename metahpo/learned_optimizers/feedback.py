"""What a training shows while it goes on, in numbers that do not depend on its units."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo.base import Params

FEATURES = 5
_FAST, _SLOW = 0.8, 0.97
_TINY = 1e-12


class Feedback(NamedTuple):
    """The state.

    Attributes:
        count: ``i32[]``, updates seen.
        first: ``f[2]``, the first loss and the first gradient's norm.
        means: ``f[3]``, running means of the loss, fast and slow, and of the squared norm.
        momentum: like the parameters, the running mean of the gradient.
    """

    count: chex.Array
    first: chex.Array
    means: chex.Array
    momentum: Params


def silent(params: Params) -> Feedback:
    """Before the first update."""
    zeros = jnp.zeros((), jnp.result_type(float))
    momentum = optax.tree.zeros_like(params)
    return Feedback(jnp.zeros((), jnp.int32), jnp.tile(zeros, 2), jnp.tile(zeros, 3), momentum)


def heard(state: Feedback, grads: Params, value: chex.Array) -> Feedback:
    """With one more gradient and its loss."""
    dtype = state.means.dtype
    value = jnp.asarray(value, dtype)
    square = jnp.asarray(optax.tree.norm(grads, squared=True), dtype)
    first = jnp.where(state.count > 0, state.first, jnp.stack([value, jnp.sqrt(square + _TINY)]))
    kept = jnp.asarray([_FAST, _SLOW, _SLOW], dtype)
    means = kept * state.means + (1 - kept) * jnp.stack([value, value, square])
    momentum = optax.tree.update_moment(grads, state.momentum, _SLOW, 1)
    return Feedback(optax.safe_increment(state.count), first, means, momentum)


def features(state: Feedback) -> chex.Array:
    """``f[5]``: how far the loss has come, whether it falls, gradients' size and consistency, time.

    The loss is seen relative to the first one and the gradient to the first gradient, so neither
    changes when the loss is multiplied by a positive number.
    """
    t = state.count.astype(state.means.dtype)
    kept = jnp.asarray([_FAST, _SLOW, _SLOW], t.dtype)
    fast, slow, square = state.means / (1 - kept ** jnp.maximum(t, 1))
    scale = jnp.abs(state.first[0]) + _TINY
    mean = jnp.asarray(optax.tree.norm(state.momentum, squared=True), t.dtype)
    mean = mean / jnp.square(1 - _SLOW ** jnp.maximum(t, 1))
    rows = [
        0.2 * jnp.log(jnp.abs(fast) / scale + 1e-6),
        (fast - slow) / (jnp.abs(slow) + 1e-6 * scale),
        0.2 * jnp.log(jnp.sqrt(square + _TINY) / (state.first[1] + _TINY) + 1e-6),
        0.2 * jnp.log(mean / (square + _TINY) + 1e-4),
        0.2 * jnp.log1p(t),
    ]
    return jax.numpy.clip(jnp.stack(rows), -3.0, 3.0)
