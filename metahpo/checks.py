"""Checks of arguments: a mistake is refused with the rule and the value, where it is known.

Traced numbers have no value yet, so what may be traced is checked only where it is concrete.
"""

import inspect
import math
from collections.abc import Collection
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

_FEWEST = 100


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
    if not is_whole(value) or np.asarray(value) < at_least:
        raise ValueError(f"{name} must be a whole number of at least {at_least}, got {value!r}")
    return int(np.asarray(value))


def counts(**numbers: Any) -> list[int]:
    """The numbers as ``int``, in their order.

    Raises:
        ValueError: unless all are whole numbers of at least 1.
    """
    return [whole(name, number) for name, number in numbers.items()]


def is_whole(value: Any) -> bool:
    """Whether a value is a single whole number; flags are none."""
    try:
        number = np.asarray(value)
        return bool(number.shape == () and number.dtype.kind in "iuf" and number == int(number))
    except (TypeError, ValueError, OverflowError):  # no number, not a number, infinite
        return False


def fits_floats(low: float, high: float, log: bool, name: Any) -> None:
    """Raises ``ValueError`` if the default float type cannot hold a range and values within it."""
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(float))
    info = np.finfo(dtype)
    largest, smallest = float(info.max), float(info.tiny)
    if max(abs(low), abs(high), high - low) > largest:
        rule = f"must lie within {largest:.2g} and be no longer"
    elif log and low < smallest:
        rule = f"must be at least {smallest:.2g} on a logarithmic scale"
    elif (high - low) / max(abs(low), abs(high)) < _FEWEST * float(info.eps):
        rule = f"must be wide enough for {_FEWEST} different numbers"
    else:
        return
    raise ValueError(f"bounds {rule} in {dtype.name}, got {name} (jax_enable_x64 has more)")


def numbers(**values: chex.Numeric) -> None:
    """Raises ``ValueError`` unless all values are real numbers or arrays of them.

    Example:
        >>> numbers(rate=0.1, scale=np.ones(3))
    """
    for name, value in values.items():
        dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
        if getattr(dtype, "kind", "O") not in "iufV":  # V: bfloat16 and its like
            raise ValueError(f"{name} must be a number, got {value!r}")


def number_or_schedule(name: str, value: Any) -> None:
    """Raises ``ValueError`` unless it is a real number or a function, as optax takes rates."""
    if not callable(value):
        numbers(**{name: value})


def positive(**values: chex.Numeric) -> None:
    """Raises ``ValueError`` unless all numbers are positive, and finite too."""
    numbers(**values)
    for name, value in values.items():
        if not known(value):
            continue
        if not (np.asarray(value) > 0).all():
            raise ValueError(f"{name} must be positive, got {value}")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be positive and finite, got {value}")


def at_least(name: str, value: chex.Numeric, least: float) -> None:
    """Raises ``ValueError`` unless ``least <= value``, and finite."""
    numbers(**{name: value})
    if known(value) and not least <= np.asarray(value) < math.inf:
        raise ValueError(f"{name} must be finite and at least {least}, got {value}")


def probability(name: str, value: chex.Numeric) -> None:
    """Raises ``ValueError`` unless ``0 <= value <= 1``."""
    numbers(**{name: value})
    if known(value) and not 0 <= np.asarray(value) <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def share(name: str, value: float, most: float = 1.0) -> None:
    """Raises ``ValueError`` unless ``0 < value <= most``."""
    numbers(**{name: value})
    if known(value) and not 0 < np.asarray(value) <= most:
        raise ValueError(f"{name} must be in (0, {most:g}], got {value}")


def one_of(name: str, value: Any, options: Collection[Any]) -> None:
    """Raises ``ValueError`` unless ``value`` is one of the options."""
    if value not in options:
        raise ValueError(f"{name} must be one of {tuple(options)}, got {value!r}")


def record(name: str, value: Any, kind: type, made_by: str) -> None:
    """Raises ``ValueError`` unless ``value`` is a record of a kind.

    Args:
        name: of the argument.
        value: what was given.
        kind: of the record.
        made_by: what makes one, for the message.

    Example:
        >>> record("numbers", [1], list, "a list")
    """
    if isinstance(value, kind):
        return
    hint = ", which was not called" if callable(value) and not isinstance(value, tuple) else ""
    raise ValueError(
        f"{name} must be a {kind.__name__}, as {made_by} makes it, got {value!r}{hint}"
        if not isinstance(value, tuple)
        else f"{name} must be a {kind.__name__}, as {made_by} makes it, got a "
        f"{type(value).__name__}"
    )


def function(name: str, value: Any, of: str, *arguments: Any, **named: Any) -> None:
    """Raises ``ValueError`` unless ``value`` is a function that takes such arguments.

    Args:
        name: of the argument.
        value: what was given.
        of: its arguments, in words, for the message.
        arguments: as many as it must take.
        named: those that it must take by name.
    """
    if not callable(value):
        raise ValueError(f"{name} must be a function {of}, got {value!r}")
    try:
        inspect.signature(value).bind(*arguments, **named)
    except TypeError as error:
        raise ValueError(f"{name} must be a function {of}: {error}") from error
    except ValueError:  # a function of C, which does not tell
        pass


def alike(what: str, new: Any, old: Any) -> None:
    """Raises ``ValueError`` unless two pytrees have the same structure and shapes.

    Args:
        what: made the new one, for the message.
        new: a pytree of arrays.
        old: a pytree of arrays.
    """
    after: Any = jax.tree.structure(new)
    before: Any = jax.tree.structure(old)
    if after != before:
        raise ValueError(f"{what} must keep the structure {before}, got {after}")
    for (path, a), b in zip(jax.tree.leaves_with_path(new), jax.tree.leaves(old), strict=True):
        if jnp.shape(a) != jnp.shape(b):
            raise ValueError(
                f"{what} must keep shapes, got {jnp.shape(a)} for {jnp.shape(b)} at "
                f"{jax.tree_util.keystr(path) or 'its only leaf'}"
            )
