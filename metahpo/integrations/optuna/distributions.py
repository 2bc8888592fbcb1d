"""Optuna's distributions as dimensions of a space, and back."""

import math
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metahpo.space import MOST_CELLS, Choice, Constant, Dimension, Float, Int

WHOLE = 2**31
"""Whole numbers from here on are no ``Int``."""
CLOSE = 1e-3
"""The part of its range by which a number may differ and still be the same."""
PLAIN = (bool, int, float, str, type(None))
"""The types of choices that every storage keeps."""


def dimension(distribution: BaseDistribution) -> Dimension:
    """What a strategy searches of a distribution.

    Steps are those of ``Float`` and ``Int``.  Where these have no room for them (65,536 steps,
    whole numbers of more than 32 bits), the dimension is a ``Float`` and ``fitted`` rounds.

    Raises:
        ValueError: for bounds that are too close for single precision, choices that are equal, or
            a distribution of another kind.
    """
    if isinstance(distribution, CategoricalDistribution):
        return Choice(distribution.choices)
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise ValueError(f"a distribution must be a float, an int or categorical, {distribution}")
    low, high, log, step = distribution.low, distribution.high, distribution.log, distribution.step
    many = step is not None and (high - low) / step >= MOST_CELLS
    if isinstance(distribution, FloatDistribution):
        return Float(low, high, log, step=None if many else step)
    if max(abs(low), abs(high)) >= WHOLE or (many and step != 1):
        return Float(low, high, log)
    return Int(int(low), int(high), log, step=distribution.step)


def fitted(distribution: BaseDistribution, value: Any) -> Any:
    """A value of ``dimension(distribution)`` as a value of the distribution itself."""
    if isinstance(distribution, CategoricalDistribution):
        return value
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is not None:
        value = low + round((value - low) / step) * step
    value = min(max(value, low), high)
    return int(value) if isinstance(distribution, IntDistribution) else float(value)


def distribution_of(dim: Dimension | Constant) -> BaseDistribution:
    """The distribution of one coordinate of a dimension, or of a constant.

    Choices of other types than ``None``, ``bool``, ``int``, ``float`` and ``str`` become text.
    """
    if isinstance(dim, Choice):
        return CategoricalDistribution([shown(value) for value in dim.values])
    if isinstance(dim, Constant):
        return CategoricalDistribution([dim.value])
    if isinstance(dim, Int):
        return IntDistribution(dim.low, dim.high, dim.log, dim.step)
    return FloatDistribution(dim.low, dim.high, dim.log, dim.step)


def shown(value: Any) -> Any:
    """A choice as a storage can keep it."""
    return value if isinstance(value, PLAIN) else repr(value)


def same(distributions: dict[str, BaseDistribution], wanted: Any, found: Any) -> bool:
    """Whether what was found, all of it or a part, has the values that were wanted.

    Numbers may differ by a ``CLOSE`` part of their range: databases drop digits, and a machine of
    another kind rounds otherwise, which adds up from round to round.
    """
    return all(
        _close(distributions[name], wanted[name], found[name])
        for name in distributions.keys() & found.keys()
    )


def _close(distribution: BaseDistribution, a: Any, b: Any) -> bool:
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        return a == b or (a != a and b != b)  # NaN may be a choice
    scale = math.log if distribution.log else float
    width = scale(distribution.high) - scale(distribution.low)
    return abs(scale(a) - scale(b)) <= CLOSE * width
