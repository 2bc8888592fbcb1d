"""A training state that carries its derivatives along given directions."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import floats
from metahpo.base import State
from metahpo.hypergrad.unrolled import log_norm


class Tangents(NamedTuple):
    """A state and its derivatives.

    Attributes:
        state: the training state.
        leaves: the derivatives of its float leaves along ``n`` directions, ``f[n, ...]``.
        first: ``f[]``, the logarithm of the derivatives' norm when it was not zero for the first
            time; minus infinity before.
        growth: ``f[]``, the logarithm of how much it has grown since, at most.
    """

    state: State
    leaves: floats.Floats
    first: chex.Array
    growth: chex.Array


def begin(fn: Callable[[chex.Array], State], x: chex.Array, directions: chex.Array) -> Tangents:
    """``fn(x)`` and its derivatives along ``directions`` f[n, h], of ``x`` f[h]."""
    leaves, state = jax.vmap(lambda v: _jvp(fn, (x,), (v,)), out_axes=(0, None))(directions)
    norm = _log_norm(leaves)
    return Tangents(state, leaves, norm, jnp.zeros_like(norm))


def push(
    fn: Callable[[chex.Array, State], State],
    x: chex.Array,
    directions: chex.Array,
    before: Tangents,
) -> Tangents:
    """``fn(x, state)`` and its derivatives; those of the state are the ones ``before``."""
    start, merge = floats.parts(before.state)

    def one(direction: chex.Array, leaves: floats.Floats) -> tuple[floats.Floats, State]:
        return _jvp(lambda x, leaves: fn(x, merge(leaves)), (x, start), (direction, leaves))

    leaves, state = jax.vmap(one, out_axes=(0, None))(directions, before.leaves)
    norm = _log_norm(leaves)
    first = jnp.where(jnp.isneginf(before.first), norm, before.first)
    growth = jnp.where(jnp.isneginf(first), 0, jnp.maximum(before.growth, norm - first))
    return Tangents(state, leaves, first, growth)


def value_and_slopes(
    fn: Callable[[chex.Array, State], chex.Array],
    x: chex.Array,
    directions: chex.Array,
    at: Tangents,
) -> tuple[chex.Array, chex.Array]:
    """``fn(x, state)`` f[] and its derivatives f[n]."""
    start, merge = floats.parts(at.state)

    def one(direction: chex.Array, leaves: floats.Floats) -> tuple[chex.Array, chex.Array]:
        return jax.jvp(lambda x, leaves: fn(x, merge(leaves)), (x, start), (direction, leaves))

    return jax.vmap(one, out_axes=(None, 0))(directions, at.leaves)


def _jvp(
    fn: Callable[..., State], primals: tuple[object, ...], tangents: tuple[object, ...]
) -> tuple[floats.Floats, State]:
    """The derivatives of the float leaves of ``fn``'s value, and the value."""

    def of_floats(*args: object) -> tuple[floats.Floats, State]:
        state = fn(*args)
        return floats.parts(state)[0], state

    _, leaves, state = jax.jvp(of_floats, primals, tangents, has_aux=True)
    return leaves, state


def _log_norm(leaves: floats.Floats) -> chex.Array:
    """A diagnosis, whose own derivative (infinite at zero) must not reach the gradient's."""
    return log_norm(jax.lax.stop_gradient(leaves))
