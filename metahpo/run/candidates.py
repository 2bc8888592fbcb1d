"""Candidates evaluated by a Python function, one after the other, and what becomes of failures."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from metahpo.base import HParams


class NoScalarError(ValueError):
    """The function returned something else than a real scalar."""


def called(fn: Callable[[HParams], float], hparams: HParams) -> float | Exception:
    """A candidate's loss; an exception of ``fn`` is data."""
    try:
        return scalar(fn(hparams))
    except Exception as error:
        return error


def message(error: BaseException) -> str:
    """What went wrong, in words."""
    return str(error) if isinstance(error, NoScalarError) else repr(error)


def scalar(value: Any) -> float:
    """A loss as a float.

    Raises:
        NoScalarError: unless it is a real scalar.
    """
    shown = f"it must return a real scalar, got {value!r} ({type(value).__name__})"
    try:
        number = np.asarray(value)
    except ValueError as error:  # a ragged list, for example
        raise NoScalarError(shown) from error
    # The name of a bfloat16 stands only in jax's table of types.
    real = number.dtype.kind in "biu" or jnp.issubdtype(number.dtype, jnp.floating)
    if number.shape != () or not real:
        raise NoScalarError(shown)
    return float(number)
