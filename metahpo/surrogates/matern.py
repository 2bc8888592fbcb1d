"""Matern's correlation of order 5/2 as a function of ``t^2``, and its derivatives by that.

``t^2 = 5 |x - y|^2 / l^2``.  The root has no derivative at 0, where the correlation has two.
"""

import chex
import jax
import jax.numpy as jnp


@jax.custom_jvp
def value(square: chex.Array) -> chex.Array:
    """``(1 + t + t^2 / 3) exp(-t)`` (Rasmussen & Williams 2006, equation 4.17)."""
    t = jnp.sqrt(square)
    return (1 + t + square / 3) * jnp.exp(-t)


@value.defjvp
def _value_jvp(primals: tuple, tangents: tuple) -> tuple[chex.Array, chex.Array]:
    return value(*primals), slope(*primals) * tangents[0]


@jax.custom_jvp
def slope(square: chex.Array) -> chex.Array:
    """Of ``value``."""
    t = jnp.sqrt(square)
    return -(1 + t) * jnp.exp(-t) / 6


@slope.defjvp
def _slope_jvp(primals: tuple, tangents: tuple) -> tuple[chex.Array, chex.Array]:
    return slope(*primals), curvature(*primals) * tangents[0]


def curvature(square: chex.Array) -> chex.Array:
    """Of ``value``; its own derivative, infinite at 0, is 0 there."""
    apart = square > 0
    t = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)
    return jnp.exp(-t) / 12
