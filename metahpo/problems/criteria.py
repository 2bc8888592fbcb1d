"""What a model's outputs are judged by: losses and the accuracy."""

import chex
import jax.numpy as jnp
import numpy as np
import optax

from metahpo import checks
from metahpo.floats import wide


def cross_entropy(outputs: chex.Array, y: chex.Array) -> chex.Array:
    """Mean cross-entropy ``f[]`` of logits ``f[..., ways]`` and labels ``i[...]``.

    A traced label out of range makes it NaN, so that it is not taken for another class.

    Raises:
        ValueError: for other shapes, a single output, or concrete labels out of range.

    Example:
        >>> round(float(cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 1, 3]))), 4)  # log 4
        1.3863
    """
    inside = _checked_labels("cross_entropy", outputs, y)
    losses = optax.softmax_cross_entropy_with_integer_labels(wide(outputs), y)
    return jnp.mean(jnp.where(inside, losses, jnp.nan))


def squared_error(outputs: chex.Array, y: chex.Array) -> chex.Array:
    """Mean squared error ``f[]`` of values ``f[n, d]``.

    Raises:
        ValueError: for two different shapes.

    Example:
        >>> float(squared_error(jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1))))
        5.0
    """
    if jnp.shape(outputs) != jnp.shape(y):
        raise ValueError(
            f"squared_error needs outputs and values of one shape, got {jnp.shape(outputs)} and "
            f"{jnp.shape(y)}"
        )
    return jnp.mean((wide(outputs) - wide(y)) ** 2)


def accuracy(outputs: chex.Array, y: chex.Array) -> chex.Array:
    """The share ``f[]`` of labels ``i[...]`` with the largest of the logits ``f[..., ways]``.

    Raises:
        ValueError: for other shapes, a single output (compare ``outputs > 0`` yourself), or
            concrete labels out of range.

    Example:
        >>> float(accuracy(jnp.eye(3), jnp.array([0, 1, 1])))
        0.6666666865348816
    """
    inside = _checked_labels("accuracy", outputs, y)
    right = wide(outputs).argmax(axis=-1) == y
    dtype = jnp.promote_types(outputs.dtype, jnp.float32)
    return jnp.mean(jnp.where(inside, right, jnp.nan), dtype=dtype)


def _checked_labels(name: str, outputs: chex.Array, y: chex.Array) -> chex.Array:
    """Which labels are classes, ``bool[...]``."""
    shape, dtype = jnp.shape(outputs), jnp.result_type(y)
    if len(shape) < 2 or shape[-1] < 2:
        raise ValueError(f"{name} needs logits [n, ways] of two or more classes, got {list(shape)}")
    if jnp.shape(y) != shape[:-1] or not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(
            f"{name} needs whole numbers {list(shape[:-1])} as labels of logits {list(shape)}, "
            f"got {dtype}{list(jnp.shape(y))}"
        )
    ways = shape[-1]
    if checks.known(y):
        wrong = np.unique(y)
        wrong = wrong[(wrong < 0) | (wrong >= ways)]
        if wrong.size:
            raise ValueError(
                f"{name}: labels must lie in 0 ... {ways - 1} for {ways} outputs, "
                f"got {wrong.tolist()}"
            )
    return (y >= 0) & (y < ways)
