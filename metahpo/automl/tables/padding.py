"""Arrays of the shapes of ``buckets``, with what says which entries are real."""

from typing import NamedTuple

import chex
import numpy as np

from metahpo.automl.tables import buckets
from metahpo.automl.tables.encoder import LEVELS


class Rows(NamedTuple):
    """Inputs of ``N`` rows, padding included.

    Attributes:
        x: ``f32[N, C]``, numbers, NaN where missing; padding is 0.
        codes: ``i32[N, K]``, categories; padding is ``LEVELS``.
    """

    x: chex.Array
    codes: chex.Array


class Table(NamedTuple):
    """What a model is trained on; all of it are arguments of the program, none of it is a constant.

    Attributes:
        rows: the inputs.
        y: ``i32[N]`` classes, or ``f32[N]`` numbers.
        weight: ``f32[N]``, 0 of padding.
        fold: ``i32[N]``, the fold in which a row validates, -1 of padding.
        columns: ``bool[C]``, which of the columns of ``x`` are real.
        code_columns: ``bool[K]``, which of those of ``codes`` are.
        classes: ``bool[P]``, which classes there are; of regression ``[True]``.
    """

    rows: Rows
    y: chex.Array
    weight: chex.Array
    fold: chex.Array
    columns: chex.Array
    code_columns: chex.Array
    classes: chex.Array


def pad_rows(x: np.ndarray, codes: np.ndarray, rows: int | None = None) -> Rows:
    """Inputs ``f32[n, c]`` and ``i32[n, k]`` in the shapes of their bucket.

    Args:
        x: numbers.
        codes: categories.
        rows: of the result, those of the bucket of ``n`` by default.
    """
    n = buckets.rows(len(x)) if rows is None else rows
    wide = np.zeros((n, buckets.columns(x.shape[1])), np.float32)
    wide[: len(x), : x.shape[1]] = x
    coded = np.full((n, buckets.codes(codes.shape[1])), LEVELS, np.int32)
    coded[: len(x), : codes.shape[1]] = codes
    return Rows(wide, coded)


def pad(
    x: np.ndarray,
    codes: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    fold: np.ndarray,
    classes: int,
) -> Table:
    """A training table in the shapes of its bucket.

    Args:
        x: ``f32[n, c]``.
        codes: ``i32[n, k]``.
        y: ``i32[n]`` classes, or ``f32[n]``.
        weight: ``f[n]``; they are scaled to the mean 1.
        fold: ``i32[n]``.
        classes: how many there are, 1 for regression.

    Example:
        >>> each = np.arange(3)
        >>> table = pad(np.ones((3, 2)), np.zeros((3, 0)), each, np.ones(3), each, classes=3)
        >>> table.rows.x.shape, table.weight.sum(), table.classes.tolist()
        ((256, 8), np.float32(3.0), [True, True, True, False])
    """
    rows = pad_rows(x, codes)
    n, size = len(x), len(rows.x)

    def filled(values: np.ndarray, by: int, dtype: type) -> np.ndarray:
        out: np.ndarray = np.full(size, by, dtype)
        out[:n] = values
        return out

    width = classes if classes <= 2 else buckets.classes(classes)
    kind = np.int32 if classes > 1 else np.float32
    return Table(
        rows,
        filled(y, 0, kind),
        filled(weight / weight.mean(), 0, np.float32),
        filled(fold, -1, np.int32),
        np.arange(rows.x.shape[1]) < x.shape[1],
        np.arange(rows.codes.shape[1]) < codes.shape[1],
        np.arange(width) < classes,
    )
