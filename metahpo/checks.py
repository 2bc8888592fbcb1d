"""Checks of arguments: a mistake is refused with the rule and the value, where it is known.

Traced numbers have no value yet, so what may be traced is checked only where it is concrete.
"""

import math
from collections.abc import Collection
from typing import Any

import chex
import jax
import numpy as np


def known(*values: chex.Numeric) -> bool:
    """Whether all values are concrete, so that they can be checked; traced ones cannot."""
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def whole(name: str, value: Any, at_least: int = 1) -> int:
    """``value`` as an ``int``, also where it was written as a float.

    Raises:
        ValueError: unless it is a whole number of at least ``at_least``.

    Example:
        >>> whole("steps", 3.0)
        3
    """
    if not is_whole(value) or value < at_least:
        raise ValueError(f"{name} must be a whole number of at least {at_least}, got {value!r}")
    return int(value)


def counts(**numbers: Any) -> None:
    """Raises ``ValueError`` unless all are whole numbers of at least 1."""
    for name, number in numbers.items():
        whole(name, number)


def is_whole(value: Any) -> bool:
    """Whether a value is a single whole number; flags are none."""
    try:
        number = np.asarray(value)
        return bool(number.shape == () and number.dtype.kind in "iuf" and number == int(number))
    except (TypeError, ValueError, OverflowError):  # no number, not a number, infinite
        return False


def positive(**numbers: chex.Numeric) -> None:
    """Raises ``ValueError`` unless all numbers are positive, and finite too."""
    for name, value in numbers.items():
        if not known(value):
            continue
        if value is None or not (np.asarray(value) > 0).all():
            raise ValueError(f"{name} must be positive, got {value}")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be positive and finite, got {value}")


def at_least(name: str, value: chex.Numeric, least: float) -> None:
    """Raises ``ValueError`` unless ``least <= value``, and finite."""
    if known(value) and not least <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least {least}, got {value}")


def probability(name: str, value: chex.Numeric) -> None:
    """Raises ``ValueError`` unless ``0 <= value <= 1``."""
    if known(value) and not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def share(name: str, value: float, most: float = 1.0) -> None:
    """Raises ``ValueError`` unless ``0 < value <= most``."""
    if known(value) and not 0 < value <= most:
        raise ValueError(f"{name} must be in (0, {most:g}], got {value}")


def one_of(name: str, value: Any, options: Collection[Any]) -> None:
    """Raises ``ValueError`` unless ``value`` is one of the options."""
    if value not in options:
        raise ValueError(f"{name} must be one of {tuple(options)}, got {value!r}")
