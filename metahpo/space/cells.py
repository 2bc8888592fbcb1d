"""The unit interval in cells: one for each value of an integer or a choice."""

import chex
import jax.numpy as jnp

MOST_CELLS = 2**16
"""Integers of so many values or more are for a search as good as continuous."""

MOST_EXACT = 2**24
"""Whole numbers up to here are floats of 32 bits too."""


def cell(unit: chex.Numeric, count: int) -> chex.Array:
    """In which of so many equal, half-open cells a coordinate lies, as a float."""
    return jnp.clip(jnp.floor(jnp.asarray(unit) * count), 0, count - 1)
