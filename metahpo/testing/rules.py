"""How a check says which rule is broken."""

from typing import Any

import jax
import numpy as np


def require(holds: bool, rule: str) -> None:
    """Raises ``AssertionError`` with the rule, also under ``python -O``, unless it holds."""
    if not holds:
        raise AssertionError(rule)


def same(new: Any, old: Any, rule: str) -> None:
    """Raises ``AssertionError`` with the rule unless two pytrees are equal to the bit."""
    pairs = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
    require(all(_equal(a, b) for a, b in pairs), rule)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, jax.Array) and jax.numpy.issubdtype(a.dtype, jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    a, b = np.asarray(a), np.asarray(b)
    nan = a.dtype.kind in "fc"
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=nan)
