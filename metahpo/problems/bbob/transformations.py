"""The distortions that make the BBOB functions irregular (RR-6829, section 0.2)."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

EDGE = 5.0  # beyond it some functions add a penalty


def map_linear(matrix: chex.Array, x: chex.Array) -> chex.Array:
    """``matrix @ x`` in full precision, also where the device would use a shorter type."""
    return jnp.dot(matrix, x, precision=jax.lax.Precision.HIGHEST)


def powers(condition: float, x: chex.Array) -> chex.Array:
    """``f[D]`` of ``x``'s type: ``condition**(i / (D - 1))``."""
    return jnp.asarray(condition ** np.linspace(0, 1, x.shape[-1]), x.dtype)


def oscillate(x: chex.Array) -> chex.Array:
    """``T_osz``, coordinate by coordinate: smooth ripples on the logarithm of the size."""
    nonzero = x != 0
    log = jnp.log(jnp.abs(jnp.where(nonzero, x, 1.0)))
    fast, slow = jnp.where(x > 0, 10.0, 5.5), jnp.where(x > 0, 7.9, 3.1)
    size = jnp.exp(log + 0.049 * (jnp.sin(fast * log) + jnp.sin(slow * log)))
    return jnp.where(nonzero, jnp.sign(x) * size, 0.0)


def stretch(x: chex.Array, beta: float) -> chex.Array:
    """``T_asy``: positive coordinates to the power ``1 + beta i/(D-1) sqrt(x)``."""
    positive = x > 0
    base = jnp.where(positive, x, 1.0)
    rank = jnp.asarray(beta * np.linspace(0, 1, x.shape[-1]), x.dtype)
    return jnp.where(positive, base ** (1 + rank * jnp.sqrt(base)), x)


def penalty(x: chex.Array, edge: float = EDGE) -> chex.Array:
    """``f_pen``: the squared distance from the box ``[-edge, edge]^D``."""
    return jnp.sum(jnp.maximum(0.0, jnp.abs(x) - edge) ** 2)


def ripple(x: chex.Array) -> chex.Array:
    """``1 - cos(2 pi x)`` without cancellation, nor loss of digits for large ``x``."""
    return 2 * jnp.sin(jnp.pi * (x - jnp.round(x))) ** 2


def power(x: chex.Array, exponent: float) -> chex.Array:
    """``x**exponent`` of ``x >= 0`` with a gradient of zero, never infinite, at zero."""
    positive = x > 0
    return jnp.where(positive, jnp.where(positive, x, 1.0) ** exponent, 0.0)
