"""Candidates evaluated by a Python function, one after the other, and what becomes of failures."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metahpo import space as spaces
from metahpo.base import HParams, PyTree


class Outcome(NamedTuple):
    """A member's loss, and what went wrong (``None`` where nothing did)."""

    loss: float
    message: str | None
    error: Exception | None


def decoder(space: spaces.Space) -> Callable[[Any], list[HParams]]:
    """``(unit f[P, D]) -> candidates`` as Python values; one program, so always the same values."""
    decode = jax.jit(jax.vmap(lambda unit: spaces.decode(space, unit)))

    def candidates(unit: Any) -> list[HParams]:
        decoded: PyTree = jax.device_get(decode(unit))
        members = [jax.tree.map(lambda x, i=i: x[i], decoded) for i in range(len(unit))]
        return [spaces.readable(space, hparams) for hparams in members]

    return candidates


def call(fn: Callable[[HParams], float], hparams: HParams) -> Outcome:
    """One evaluation; an exception of ``fn`` is data."""
    try:
        return Outcome(_scalar(fn(hparams)), None, None)
    except Exception as error:
        message = str(error) if isinstance(error, _NoScalarError) else repr(error)
        return Outcome(float("inf"), message, error)


class _NoScalarError(ValueError):
    """The function returned something else than a real scalar."""


def _scalar(value: Any) -> float:
    shown = f"it must return a real scalar, got {value!r} ({type(value).__name__})"
    try:
        number = np.asarray(value)
    except ValueError as error:  # a ragged list, for example
        raise _NoScalarError(shown) from error
    # The name of a bfloat16 stands only in jax's table of types.
    real = number.dtype.kind in "biu" or jnp.issubdtype(number.dtype, jnp.floating)
    if number.shape != () or not real:
        raise _NoScalarError(shown)
    return float(number)
