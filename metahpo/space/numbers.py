"""Dimensions that are numbers."""

import math
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.space.cells import MOST_CELLS, MOST_EXACT, cell
from metahpo.space.shapes import check_shape


@dataclass(frozen=True)
class Float:
    """A real number in ``[low, high]``, uniform on a linear or logarithmic scale.

    Args:
        low: lower bound; positive when ``log``.
        high: upper bound, above ``low``.
        log: whether the unit interval maps to the logarithm of the value.
        shape: of an array of such numbers, each with a coordinate of its own.
        step: between values, of which both bounds are two; all numbers are values without one.  To
            strategies such a number is a whole one, without a gradient.

    Raises:
        ValueError: if the bounds are not finite or the default float type cannot hold them and a
            hundred numbers between them, ``low >= high``, ``log`` with ``low <= 0``, ``shape``
            holds what is not a positive whole number, or ``step`` does not lead from one bound to
            the other.

    Example:
        >>> round(float(Float(1e-4, 1.0, log=True).decode(0.5)), 4)
        0.01
    """

    low: float
    high: float
    log: bool = False
    shape: tuple[int, ...] = ()
    step: float | None = None

    def __post_init__(self) -> None:
        """Checks the bounds."""
        _check_bounds(self)
        checks.fits_floats(self.low, self.high, self.log, self)
        check_shape(self)
        _check_step(self)
        # Plain numbers, because a NumPy scalar would promote float32 under x64.
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))

    def decode(self, unit: chex.Numeric) -> chex.Array:
        """Maps ``unit`` in [0, 1] to a value of the same float type; differentiable."""
        if self.step is not None:
            return self.low + cell(unit, steps(self)) * self.step
        low, high = self._ends()
        value = low + unit * (high - low)
        value = jnp.exp(value) if self.log else jnp.asarray(value)
        # Rounding may leave the bounds by an ulp.  The clip is straight-through because a member
        # that sits on a bound still needs the gradient that leads it back inside.
        return value + jax.lax.stop_gradient(jnp.clip(value, self.low, self.high) - value)

    def number(self, unit: np.ndarray) -> np.ndarray:
        """``decode`` on the host, in double precision and within the bounds; without a ``step``."""
        low, high = self._ends()
        value = low + np.asarray(unit, np.float64) * (high - low)
        return np.clip(np.exp(value) if self.log else value, self.low, self.high)

    def encode(self, value: chex.Numeric) -> chex.Array:
        """Maps a value in ``[low, high]`` to the unit interval."""
        if self.step is not None:
            return (jnp.round((jnp.asarray(value) - self.low) / self.step) + 0.5) / steps(self)
        low, high = self._ends()
        return ((jnp.log(value) if self.log else jnp.asarray(value)) - low) / (high - low)

    def _ends(self) -> tuple[float, float]:
        return (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)


@dataclass(frozen=True)
class Int:
    """A whole number in ``low ... high``, both ends included; every number gets its own cell.

    On the linear scale all cells are equally wide; on the logarithmic scale the cell of ``k``
    reaches from ``log(k - 1/2)`` to ``log(k + 1/2)``.

    Args:
        low: the smallest value; at least 1 when ``log``.
        high: the largest value, above ``low``.
        log: whether the unit interval maps to the logarithm of the value.
        shape: of an array of such numbers, each with a coordinate of its own.
        step: between values, of which both bounds are two; only on the linear scale.

    Raises:
        ValueError: if a bound is not whole or not of 32 bits, ``low >= high``, ``log`` with
            ``low <= 0``, ``shape`` holds what is not a positive whole number, or ``step`` does not
            lead from one bound to the other.

    Example:
        >>> [int(Int(1, 4).decode(u)) for u in (0.0, 0.24, 0.26, 1.0)]
        [1, 1, 2, 4]
    """

    low: int
    high: int
    log: bool = False
    shape: tuple[int, ...] = ()
    step: int = 1

    def __post_init__(self) -> None:
        """Checks the bounds."""
        _check_bounds(self)
        check_shape(self)
        _check_step(self)
        if int(self.low) != self.low or int(self.high) != self.high:
            raise ValueError(f"the bounds of an Int must be whole numbers, got {self}")
        if self.low < -(2**31) or self.high >= 2**31:
            raise ValueError(f"the bounds of an Int must fit into 32 bits, got {self}")
        object.__setattr__(self, "low", int(self.low))
        object.__setattr__(self, "high", int(self.high))
        object.__setattr__(self, "step", int(self.step))

    def decode(self, unit: chex.Numeric) -> chex.Array:
        """Maps ``unit`` in [0, 1] to an ``i32``; cells are half open."""
        low, high = self._ends()
        if not self.log and steps(self) <= MOST_EXACT:
            return self.low + self.step * cell(unit, steps(self)).astype(jnp.int32)
        value = low + unit * (high - low)
        value = jnp.floor((jnp.exp(value) if self.log else value) + 0.5)
        # Compared as floats, because the largest whole numbers round up to what 32 bits lack.
        least, most = (value <= self.low) | (unit <= 0), (value >= self.high) | (unit >= 1)
        inside = jnp.where(least | most, 0, value).astype(jnp.int32)
        return jnp.where(least, self.low, jnp.where(most, self.high, inside))

    def encode(self, value: chex.Numeric) -> chex.Array:
        """Maps a whole number to a point inside its cell."""
        low, high = self._ends()
        if not self.log and steps(self) <= MOST_EXACT:
            return ((jnp.asarray(value) - self.low) / self.step + 0.5) / steps(self)
        value = jnp.asarray(value, dtype=jnp.result_type(float))
        return ((jnp.log(value) if self.log else value) - low) / (high - low)

    def _ends(self) -> tuple[float, float]:
        low, high = self.low - 0.5, self.high + 0.5
        return (math.log(low), math.log(high)) if self.log else (low, high)


def steps(dim: Float | Int) -> int:
    """How many values a dimension with a step has."""
    assert dim.step is not None
    return round((dim.high - dim.low) / dim.step) + 1


def _check_bounds(dimension: Float | Int) -> None:
    if not (np.isfinite(dimension.low) and np.isfinite(dimension.high)):
        raise ValueError(f"bounds must be finite, got {dimension}")
    if dimension.low >= dimension.high:
        raise ValueError(f"low must be below high, got {dimension}")
    if dimension.log and dimension.low <= 0:
        raise ValueError(f"a logarithmic scale needs low > 0, got {dimension}")


def _check_step(dimension: Float | Int) -> None:
    step = dimension.step
    if step is None or (isinstance(dimension, Int) and step == 1):
        return
    if isinstance(dimension, Int) and (isinstance(step, bool) or step != int(step)):
        raise ValueError(f"the step of an Int must be a whole number, got {dimension}")
    if dimension.log:
        raise ValueError(f"a step needs a linear scale, got {dimension}")
    if not step > 0:
        raise ValueError(f"a step must be positive, got {dimension}")
    steps = (dimension.high - dimension.low) / step
    if not math.isclose(steps, round(steps), rel_tol=1e-9) or round(steps) >= MOST_CELLS:
        raise ValueError(
            f"less than {MOST_CELLS} whole steps must lead from low to high, got {dimension}"
        )
