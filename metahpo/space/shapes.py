"""Shapes of dimensions that are arrays."""

from typing import Any


def check_shape(dimension: Any) -> None:
    """Makes a shape a tuple, in place; ``ValueError`` unless it holds positive whole numbers."""
    if isinstance(dimension.shape, int):
        object.__setattr__(dimension, "shape", (dimension.shape,))
    if any(length != int(length) or length < 1 for length in dimension.shape):
        raise ValueError(f"a shape must hold positive whole numbers, got {dimension}")
    object.__setattr__(dimension, "shape", tuple(int(length) for length in dimension.shape))
