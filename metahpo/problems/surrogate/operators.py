"""The operators of ONNX that surrogate networks are made of, as functions of arrays.

Each is ``(xp, attributes, *inputs) -> output`` with ``xp`` NumPy or JAX's: what is known before
the trace, such as shapes and where a slice ends, stays known.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

Attributes = dict[str, Any]
Operator = Callable[..., chex.Array]


def operate(name: str, attributes: Attributes, inputs: list[chex.Array | None]) -> chex.Array:
    """The output of one operator; ``None`` is an input that is left out."""
    # Under a trace JAX would make even constants unknown.
    known = all(x is None or isinstance(x, np.ndarray) for x in inputs)
    output = OPERATORS[name](np if known else jnp, attributes, *inputs)
    return np.asarray(output) if known else output


def _elementwise(name: str) -> Operator:
    return lambda xp, attributes, *inputs: getattr(xp, name)(*inputs)


def _batch_normalization(
    xp: ModuleType,
    attributes: Attributes,
    x: chex.Array,
    scale: chex.Array,
    bias: chex.Array,
    mean: chex.Array,
    variance: chex.Array,
) -> chex.Array:
    if attributes.get("training_mode", 0):
        raise ValueError("BatchNormalization must not be in training mode")
    factor = scale / xp.sqrt(variance + attributes.get("epsilon", 1e-5))
    shape = (1, -1, *[1] * (x.ndim - 2))
    return x * factor.reshape(shape) + (bias - mean * factor).reshape(shape)


def _cast(xp: ModuleType, attributes: Attributes, x: chex.Array) -> chex.Array:
    # Without x64, JAX has no double precision.
    dtype = attributes["to"]
    return x.astype(dtype if xp is np else jax.dtypes.canonicalize_dtype(dtype))


def _concat(xp: ModuleType, attributes: Attributes, *inputs: chex.Array) -> chex.Array:
    return xp.concatenate(inputs, axis=attributes["axis"])


def _constant(xp: ModuleType, attributes: Attributes) -> chex.Array:
    del xp
    return attributes["value"]


def _div(xp: ModuleType, attributes: Attributes, x: chex.Array, y: chex.Array) -> chex.Array:
    del attributes
    if np.issubdtype(x.dtype, np.integer):  # towards zero, as in C
        return xp.sign(x) * xp.sign(y) * (abs(x) // abs(y))
    return x / y


def _gather(xp: ModuleType, attributes: Attributes, x: chex.Array, at: chex.Array) -> chex.Array:
    place = at.item() if isinstance(at, np.ndarray) and at.ndim == 0 else at
    axis = attributes.get("axis", 0) % x.ndim
    return xp.asarray(x)[(*[slice(None)] * axis, place)]


def _gemm(
    xp: ModuleType,
    attributes: Attributes,
    a: chex.Array,
    b: chex.Array,
    c: chex.Array | None = None,
) -> chex.Array:
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    product = attributes.get("alpha", 1.0) * xp.matmul(a, b)
    return product if c is None else product + attributes.get("beta", 1.0) * c


def _relu(xp: ModuleType, attributes: Attributes, x: chex.Array) -> chex.Array:
    del attributes
    return xp.maximum(x, 0)


def _shape(xp: ModuleType, attributes: Attributes, x: chex.Array) -> chex.Array:
    del xp
    return np.array(x.shape[attributes.get("start", 0) : attributes.get("end")], np.int64)


def _sigmoid(xp: ModuleType, attributes: Attributes, x: chex.Array) -> chex.Array:
    del attributes
    return 1 / (1 + np.exp(-x)) if xp is np else jax.nn.sigmoid(x)


def _slice(
    xp: ModuleType,
    attributes: Attributes,
    x: chex.Array,
    starts: chex.Array,
    ends: chex.Array,
    axes: chex.Array | None = None,
    steps: chex.Array | None = None,
) -> chex.Array:
    del xp, attributes
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), int) if steps is None else steps
    if not all(isinstance(numbers, np.ndarray) for numbers in (starts, ends, axes, steps)):
        raise ValueError("Slice must have ends that do not depend on the network's inputs")
    if (np.asarray(steps) < 1).any():
        raise ValueError(f"Slice must have positive steps, got {steps}")
    at = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at[int(axis)] = slice(int(start), int(end), int(step))
    return x[tuple(at)]


def _unsqueeze(
    xp: ModuleType, attributes: Attributes, x: chex.Array, axes: chex.Array
) -> chex.Array:
    del attributes
    return xp.expand_dims(x, tuple(int(axis) for axis in axes))


OPERATORS: dict[str, Operator] = {
    "Add": _elementwise("add"),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "Div": _div,
    "Exp": _elementwise("exp"),
    "Gather": _gather,
    "Gemm": _gemm,
    "Log": _elementwise("log"),
    "Mul": _elementwise("multiply"),
    "Neg": _elementwise("negative"),
    "Relu": _relu,
    "Shape": _shape,
    "Sigmoid": _sigmoid,
    "Slice": _slice,
    "Sub": _elementwise("subtract"),
    "Unsqueeze": _unsqueeze,
}
