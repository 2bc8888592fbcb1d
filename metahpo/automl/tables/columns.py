"""Whatever holds a table, as named columns of one length."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Columns(NamedTuple):
    """A table on the host.

    Attributes:
        names: of the columns.
        values: by column, ``[n]`` each: numbers, truth values, dates or objects.
        named: whether the names came with the table; otherwise they are numbers.
    """

    names: tuple[str, ...]
    values: tuple[np.ndarray, ...]
    named: bool

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.values[0]) if self.values else 0


def read(x: Any) -> Columns:
    """Takes a table apart.

    Args:
        x: a data frame (pandas, polars or anything with ``columns`` that is indexed by their
            names), a mapping from names to columns, or an array or nested lists ``[n, columns]``.

    Raises:
        ValueError: for a sparse or complex table, one that is not two-dimensional, one without
            rows or columns, columns of different lengths, or two of one name.

    Example:
        >>> read({"age": [30, 41], "town": ["Rome", None]}).names
        ('age', 'town')
        >>> read(np.ones((3, 2))).names
        ('0', '1')
    """
    if isinstance(x, Columns):
        return x
    if hasattr(x, "toarray"):
        raise ValueError("Sparse data was passed for X, but dense data is required: use .toarray()")
    if isinstance(x, Mapping):
        names, values = list(x), [_column(x[name]) for name in x]
    elif hasattr(x, "columns") and hasattr(x, "__getitem__"):
        names = list(x.columns)
        _check_names(names)
        values = [_column(x[name]) for name in names]
    else:
        return _of_array(x)
    _check_names(names)
    if not names:
        raise ValueError("X must have columns, got 0 feature(s) (shape=(0, 0))")
    lengths = {len(column) for column in values}
    if len(lengths) > 1 or any(column.ndim != 1 for column in values):
        raise ValueError(f"columns of X must be of one length, got lengths {sorted(lengths)}")
    if lengths == {0}:
        raise ValueError("X must have rows, got 0 sample(s)")
    named = all(isinstance(name, str) for name in names)
    return Columns(tuple(map(str, names)), tuple(map(_real, values)), named)


def _of_array(x: Any) -> Columns:
    table = np.asarray(x)
    if table.dtype.kind == "O" and table.ndim != 2:
        raise ValueError(f"X must be [rows, columns], got the shape {table.shape}")
    if table.ndim != 2:
        raise ValueError(
            f"Expected 2D array, X must be [rows, columns], got the shape {table.shape}. "
            "Reshape your data: x[:, None] if it has one column, x[None] if it has one row"
        )
    if not table.shape[1]:
        raise ValueError(
            f"0 feature(s) (shape={table.shape}) while a minimum of 1 is required: "
            "X must have columns"
        )
    if not table.shape[0]:
        raise ValueError(f"0 sample(s) (shape={table.shape}): X must have rows")
    names = tuple(str(i) for i in range(table.shape[1]))
    return Columns(names, tuple(_real(column) for column in table.T), False)


def _check_names(names: list[Any]) -> None:
    if twice := sorted({str(name) for name in names if names.count(name) > 1}):
        raise ValueError(f"columns of X must have different names, got {twice} twice")


def _column(values: Any) -> np.ndarray:
    """``[n]``; a category of pandas as its values, missing ones as ``None`` or NaN."""
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if isinstance(values, np.ndarray):
        return values
    values = list(values)
    plain = np.asarray(values, object)
    if all(isinstance(v, bool | int | float | np.number | np.bool_) for v in values):
        return np.asarray(values)
    return plain


def _real(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind == "c":
        raise ValueError("Complex data not supported: columns of X must be real")
    return column
