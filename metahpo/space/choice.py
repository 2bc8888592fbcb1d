"""Dimensions that are one of several values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import chex
import jax.numpy as jnp

from metahpo.space.cells import cell
from metahpo.space.shapes import check_shape


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Inside a compiled program a choice is the *index* (``i32``) of its value, ready for
    ``jax.lax.switch`` or for indexing an array of the values; ``readable`` gives the value.

    Args:
        values: the values, of any type.
        shape: of an array of such choices, each with a coordinate of its own.
        ordered: whether neighbours in ``values`` are alike, as in ``(16, 32, 64)``.  To strategies
            such a choice is the whole number of its index.

    Raises:
        ValueError: if there is no value, one that is to be ordered alone, one stands twice, or
            ``shape`` holds what is not a positive whole number.

    Example:
        >>> activation = Choice(("relu", "tanh"))
        >>> activation.values[int(activation.decode(0.7))]
        'tanh'
        >>> int(Choice((16, 32, 64), ordered=True).encode(2) * 3)
        2
    """

    values: Sequence[Any]
    shape: tuple[int, ...] = ()
    ordered: bool = False

    def __post_init__(self) -> None:
        """Checks the values and makes them hashable."""
        check_shape(self)
        if isinstance(self.values, str) or not isinstance(self.values, Sequence):
            raise ValueError(f"Choice needs a sequence of values, got {self.values!r}")
        if not self.values:
            raise ValueError("Choice needs at least one value, got an empty sequence")
        if not isinstance(self.ordered, bool):
            raise ValueError(f"ordered must be True or False, got {self.ordered!r}")
        if self.ordered and len(self.values) < 2:
            raise ValueError(f"an ordered Choice needs at least two values, got {self.values!r}")
        object.__setattr__(self, "values", tuple(self.values))
        if _repeats(self.values):
            raise ValueError(f"the values of a Choice must differ, got {self.values}")

    def decode(self, unit: chex.Numeric) -> chex.Array:
        """Maps ``unit`` in [0, 1] to the index of a value, ``i32``."""
        return cell(unit, len(self.values)).astype(jnp.int32)

    def encode(self, index: chex.Numeric) -> chex.Array:
        """Maps an index to the middle of its cell."""
        return (jnp.asarray(index, dtype=jnp.result_type(float)) + 0.5) / len(self.values)


def _repeats(values: Sequence[Any]) -> bool:
    try:
        return len(set(values)) < len(values)
    except TypeError:  # a value without a hash
        return any(value in values[:i] for i, value in enumerate(values))
