"""How alike embeddings are."""

import chex
import jax.numpy as jnp


def negative_squared_distance(x: chex.Array, y: chex.Array) -> chex.Array:
    """``-|x - y|^2`` of all pairs, f[n, m], but for a term of x alone, which a softmax ignores.

    Without that term it is linear in x: ``2 x y - |y|^2`` (Snell et al. 2017, section 2.4).
    """
    return 2 * jnp.matmul(x, y.T, precision="highest") - jnp.sum(y**2, axis=1)


def cosine(x: chex.Array, y: chex.Array) -> chex.Array:
    """Cosines of all pairs, f[n, m]; 0 with the zero vector, whose gradient stays finite."""
    return jnp.matmul(_unit(x), _unit(y).T, precision="highest")


def _unit(x: chex.Array) -> chex.Array:
    square = jnp.sum(x**2, axis=1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, jnp.finfo(x.dtype).eps))
