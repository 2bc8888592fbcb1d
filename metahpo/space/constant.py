"""What stands in a space and is not searched."""

from dataclasses import dataclass

import chex
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Constant:
    """A value that is not searched and takes no coordinate, but stands among the hyperparameters.

    Inside a compiled program a number or a truth value is an array; a text is the index 0, like
    the value of a ``Choice`` that has only one.

    Args:
        value: a number, a truth value or a text.

    Raises:
        ValueError: for another type, NaN, or a whole number of more than 32 bits.

    Example:
        >>> import jax.numpy as jnp, metahpo as mh
        >>> space = {"lr": mh.Float(0.0, 1.0), "layers": mh.Constant(3)}
        >>> mh.space.readable(space, mh.space.decode(space, jnp.array([0.5])))
        {'layers': 3, 'lr': 0.5}
    """

    value: bool | int | float | str

    def __post_init__(self) -> None:
        """Checks the value."""
        value = self.value.item() if isinstance(self.value, np.generic) else self.value
        if not isinstance(value, bool | int | float | str):
            raise ValueError(
                f"a Constant must be a number, a truth value or a text, got {value!r} "
                f"({type(value).__name__})"
            )
        if value != value:
            raise ValueError(f"a Constant must not be NaN, got {value!r}")
        if isinstance(value, int) and not -(2**31) <= value < 2**31:
            raise ValueError(f"a whole Constant must fit into 32 bits, got {value!r}")
        object.__setattr__(self, "value", value)

    def decode(self, dtype: jnp.dtype) -> chex.Array:
        """The value inside a program: a float of ``dtype``, ``i32[]`` or ``bool[]``."""
        if isinstance(self.value, str):
            return jnp.zeros((), jnp.int32)
        whole = isinstance(self.value, int) and not isinstance(self.value, bool)
        of_type = jnp.int32 if whole else dtype
        return jnp.asarray(self.value, bool if isinstance(self.value, bool) else of_type)
