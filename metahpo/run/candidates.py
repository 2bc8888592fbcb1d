"""Candidates evaluated by a Python function, and what becomes of failures."""

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from metahpo.base import HParams
from metahpo.run.states import FROM_SCRATCH


class NoScalarError(ValueError):
    """The function returned something else than it must."""


class Outcome(NamedTuple):
    """What became of a candidate.

    Attributes:
        loss: or the exception because of which there is none.
        state: of its training, pickled.
    """

    loss: float | Exception
    state: bytes = FROM_SCRATCH


def called(fn: Callable[[HParams], float], hparams: HParams) -> Outcome:
    """A candidate's loss; an exception of ``fn`` is data."""
    try:
        return Outcome(scalar(fn(hparams)))
    except Exception as error:
        return Outcome(error)


def trained(
    fn: Callable[[HParams, int | None, Any], tuple[float, Any]],
    hparams: HParams,
    steps: int | None,
    state: bytes,
) -> Outcome:
    """The loss of a candidate that trains on from a state, and the state that it comes to."""
    try:
        found = fn(hparams, steps, pickle.loads(state))
        if not isinstance(found, tuple) or len(found) != 2:
            raise NoScalarError(
                f"it must return (loss, state), got {found!r} ({type(found).__name__})"
            )
        loss = scalar(found[0])
        try:
            return Outcome(loss, pickle.dumps(found[1]))
        except Exception as error:
            raise NoScalarError(
                f"it must return a state that can be pickled, got a {type(found[1]).__name__}: "
                f"{error}"
            ) from error
    except Exception as error:
        return Outcome(error)


def sent(call: Callable[..., Outcome], *args: Any) -> Outcome:
    """The outcome of a call in another process, such that it finds its way back."""
    outcome = call(*args)
    if isinstance(outcome.loss, Exception):
        try:
            pickle.loads(pickle.dumps(outcome.loss))
        except Exception:  # it would break the pool
            return Outcome(RuntimeError(message(outcome.loss)))
    return outcome


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
