"""Methods beside one of them, on the same tasks or seeds."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from metahpo.report import Interval, interval

Name = TypeVar("Name", bound=Hashable)


def paired(
    values: Mapping[Name, ArrayLike], base: Name, column: str, minus: str
) -> dict[Name, dict[str, Interval]]:
    """Cells of a table: every method's mean, and its paired difference from one of them.

    Args:
        values: by method, ``f[n]`` each, of the same tasks or seeds in the same order.
        base: the method that the others are compared with; it has no difference.
        column: name of the means' column.
        minus: name of the differences' column.

    Returns:
        By method, its part of a row.

    Raises:
        ValueError: for a ``base`` that is not there.

    Example:
        >>> cells = paired({"a": [1.0, 2.0], "b": [2.0, 3.0]}, "a", "loss", "minus a")
        >>> float(cells["b"]["minus a"].mean), list(cells["a"])
        (1.0, ['loss'])
    """
    if base not in values:
        raise ValueError(f"there must be values of {base!r}, got those of {list(values)}")
    cells = {}
    for name, each in values.items():
        cells[name] = {column: interval(each)}
        if name != base:
            cells[name][minus] = interval(np.subtract(each, values[base]))
    return cells
