"""What is predicted: labels as numbers, and numbers in units of their spread."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from metahpo._extras import require
from metahpo.automl.tables.encoder import is_missing


class Labels(NamedTuple):
    """Classes.

    Attributes:
        classes: in their order, ``[K]``.
        y: ``i32[n]``, the place of each row's.
    """

    classes: np.ndarray
    y: np.ndarray


class Numbers(NamedTuple):
    """Numbers.

    Attributes:
        mean: of them.
        scale: their standard deviation.
        y: ``f32[n]``, relative to the mean in units of the scale.
    """

    mean: float
    scale: float
    y: np.ndarray


def labels(y: Any, rows: int) -> Labels:
    """Reads labels.

    Raises:
        ValueError: for another length, missing labels, a single class, or numbers with fractions
            that are rather those of a regression.

    Example:
        >>> labels(["no", "yes", "no"], 3).y.tolist()
        [0, 1, 0]
    """
    found = values(y, rows)
    if found.dtype.kind == "f" and (found != np.round(found)).any():
        raise ValueError(
            "Unknown label type: continuous. Labels of a classification must not be fractions, "
            f"got {found[:3]}; a Regressor predicts numbers"
        )
    if found.dtype.kind == "O":
        kinds = {type(v) for v in found.tolist()}
        found = found.astype(str) if kinds == {str} or len(kinds) > 1 else np.array(list(found))
    classes, codes = np.unique(found, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"there must be at least two classes, got one class: {classes.tolist()[:1]}"
        )
    return Labels(classes, codes.astype(np.int32))


def numbers(y: Any, rows: int) -> Numbers:
    """Reads numbers.

    Raises:
        ValueError: for another length, missing or infinite numbers, text, or a constant.
    """
    found = values(y, rows)
    try:
        found = found.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the target of a regression must be numbers, got {found[:3]!r}; "
            "a Classifier predicts labels"
        ) from error
    if np.isinf(found).any():
        raise ValueError("Input y contains infinity: the target must be finite")
    mean, scale = float(found.mean()), float(found.std())
    if not scale > 1e-12 * abs(mean):
        raise ValueError(f"the target must not be constant, got {found[0]} in every row")
    return Numbers(mean, scale, ((found - mean) / scale).astype(np.float32))


def values(y: Any, rows: int) -> np.ndarray:
    """A target as ``[rows]``, whatever it is of.

    Raises:
        ValueError: for another shape, or missing ones.
    """
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    found = np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y)
    if found.dtype.kind == "c":
        raise ValueError("Complex data not supported: the target must be real")
    if found.ndim == 2 and found.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected: it is made flat",
            of_sklearn("DataConversionWarning", UserWarning),
            stacklevel=5,
        )
        found = found[:, 0]
    if found.ndim != 1:
        raise ValueError(f"y must be one column, [{rows}], got the shape {found.shape}")
    if len(found) != rows:
        raise ValueError(
            f"y must have a value for each of the {rows} rows, got {len(found)}: "
            "Found input variables with inconsistent numbers of samples"
        )
    if is_missing(found).any():
        raise ValueError("Input y contains NaN: the target must not be missing anywhere")
    return found


def of_sklearn(name: str, otherwise: type[Any]) -> type[Any]:
    """An exception of scikit-learn's, where it is installed."""
    try:
        return getattr(require("sklearn.exceptions", "automl"), name)
    except ImportError:
        return otherwise
