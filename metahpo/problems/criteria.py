"""What a model's outputs are judged by: losses and the accuracy."""

import chex
import jax.numpy as jnp
import numpy as np
import optax

from metahpo import checks
from metahpo.floats import wide


def cross_entropy(
    outputs: chex.Array, y: chex.Array, weight: chex.Array | None = None
) -> chex.Array:
    """Mean cross-entropy ``f[]`` of logits ``f[..., ways]`` and labels ``i[...]``.

    A traced label out of range makes it NaN, so that it is not taken for another class.

    Args:
        outputs: logits, classes last.
        y: labels, one for every row of logits.
        weight: how much each example counts, ``f[n]`` or of more leading axes of ``y``; where it is
            0 anything may stand.

    Raises:
        ValueError: for other shapes, a single output, or concrete labels out of range.

    Example:
        >>> round(float(cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 1, 3]))), 4)  # log 4
        1.3863
    """
    inside = _checked_labels("cross_entropy", outputs, y, weight)
    losses = optax.softmax_cross_entropy_with_integer_labels(wide(outputs), y)
    return mean(jnp.where(inside, losses, jnp.nan), weight)


def squared_error(
    outputs: chex.Array, y: chex.Array, weight: chex.Array | None = None
) -> chex.Array:
    """Mean squared error ``f[]`` of values ``f[n, d]``, of complex ones by their absolute value.

    Args:
        outputs: predicted values.
        y: the true ones.
        weight: as of ``cross_entropy``.

    Raises:
        ValueError: for two different shapes.

    Example:
        >>> float(squared_error(jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1))))
        5.0
    """
    check_values("squared_error", outputs, y)
    error = wide(outputs) - wide(y)
    if jnp.iscomplexobj(error):
        return mean(error.real**2 + error.imag**2, weight)
    return mean(error**2, weight)


def accuracy(outputs: chex.Array, y: chex.Array, weight: chex.Array | None = None) -> chex.Array:
    """The share ``f[]`` of labels ``i[...]`` with the largest of the logits ``f[..., ways]``.

    Logits that are NaN make it NaN: a diverged learner does not score as chance does.

    Args:
        outputs: logits, classes last.
        y: labels, one for every row of logits.
        weight: as of ``cross_entropy``.

    Raises:
        ValueError: for other shapes, a single output (compare ``outputs > 0`` yourself), or
            concrete labels out of range.

    Example:
        >>> float(accuracy(jnp.eye(3), jnp.array([0, 1, 1])))
        0.6666666865348816
    """
    inside = _checked_labels("accuracy", outputs, y, weight)
    logits = wide(outputs)
    inside &= ~jnp.isnan(logits).any(axis=-1)
    right = jnp.where(inside, (logits.argmax(axis=-1) == y).astype(logits.dtype), jnp.nan)
    return mean(right, weight)


def mean(values: chex.Array, weight: chex.Array | None) -> chex.Array:
    """The mean ``f[]`` of values ``f[n, ...]``, by the weights of their rows."""
    if weight is None:
        return jnp.mean(values)
    weight, shape = jnp.asarray(weight), jnp.shape(values)
    _check_weights(weight.shape, shape)
    weight = weight.reshape(*weight.shape, *[1] * (len(shape) - weight.ndim)).astype(values.dtype)
    weight = jnp.broadcast_to(weight, shape)
    counted = jnp.where(weight == 0, 0, values)  # also where 0 times it would be NaN
    return jnp.sum(weight * counted) / jnp.sum(weight)


def _check_weights(weight: tuple[int, ...], values: tuple[int, ...]) -> None:
    """Raises ``ValueError`` unless the weights' axes are the first ones of the values."""
    if not weight or weight != values[: len(weight)]:
        raise ValueError(f"weights must be {list(values[:1])}, got {list(weight)}")


def check_values(name: str, outputs: chex.Array, y: chex.Array) -> None:
    """Raises ``ValueError`` unless predicted and true values have one shape: nothing broadcasts."""
    if jnp.shape(outputs) != jnp.shape(y):
        raise ValueError(
            f"{name} needs outputs and values of one shape, got {jnp.shape(outputs)} and "
            f"{jnp.shape(y)}"
        )


def _checked_labels(
    name: str, outputs: chex.Array, y: chex.Array, weight: chex.Array | None
) -> chex.Array:
    """Which labels are classes, ``bool[...]``; those of weight 0 may be anything."""
    shape, dtype = jnp.shape(outputs), jnp.result_type(y)
    if len(shape) < 2 or shape[-1] < 2:
        raise ValueError(f"{name} needs logits [n, ways] of two or more classes, got {list(shape)}")
    if jnp.shape(y) != shape[:-1] or not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(
            f"{name} needs whole numbers {list(shape[:-1])} as labels of logits {list(shape)}, "
            f"got {dtype}{list(jnp.shape(y))}{_hint(shape, jnp.shape(y))}"
        )
    if weight is not None:
        _check_weights(jnp.shape(weight), shape[:-1])
    ways = shape[-1]
    if checks.known(y, weight):
        wrong = np.unique(y if weight is None else np.asarray(y)[np.asarray(weight) > 0])
        wrong = wrong[(wrong < 0) | (wrong >= ways)]
        if wrong.size:
            raise ValueError(
                f"{name}: labels must lie in 0 ... {ways - 1} for {ways} outputs, "
                f"got {wrong.tolist()}"
            )
    return (y >= 0) & (y < ways)


def _hint(outputs: tuple[int, ...], y: tuple[int, ...]) -> str:
    """What may have been meant by shapes that do not fit."""
    if len(outputs) > 2 and y == (outputs[0], *outputs[2:]):
        return "; the classes must be the last axis, and here they are the one after the examples"
    if y == (*outputs[:-1], 1):
        return "; leave out the labels' last axis"
    if y == outputs:
        return "; labels are class numbers, as argmax of such rows gives them"
    return ""
