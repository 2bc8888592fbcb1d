"""A table of configurations and what became of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metahpo.space import Choice, Dimension, Float, Int


class Table(NamedTuple):
    """Configurations and their scores, as ``table`` makes it.

    Attributes:
        space: ``{name: dimension}``, the search space.
        values: ``{name: what its numbers stand for}``, of dimensions that count through a list of
            values; empty where the numbers are the values.
        columns: ``f64[N, D]``, the configurations in the order of ``space``; of a choice the index.
        scores: ``f64[N, R, E]``, losses of every repeat after every epoch; the task of the problem.
        best: the lowest loss, a mean over repeats after the last epoch.
        median: the median configuration's loss, likewise.
    """

    space: dict[str, Dimension]
    values: dict[str, tuple]
    columns: np.ndarray
    scores: np.ndarray
    best: float
    median: float


def table(
    space: Mapping[str, Dimension],
    configurations: Mapping[str, Sequence[Any] | np.ndarray],
    scores: np.ndarray,
    values: Mapping[str, Sequence[Any]] | None = None,
) -> Table:
    """Makes a table of configurations that were evaluated.

    Args:
        space: ``{name: dimension}`` of scalar dimensions.
        configurations: ``{name: N values}``, as the dimensions have them: numbers, and of a choice
            its values themselves.
        scores: losses ``f[N, R]`` of ``R`` repeats, or learning curves ``f[N, R, E]``, the losses
            after 1 ... ``E`` epochs.  A failure is ``inf``.
        values: what the numbers of a dimension stand for, if it is an ``Int`` that counts through a
            list: ``values[name][number - low]``.  Only kept for who reads the table.

    Returns:
        A ``Table``.

    Raises:
        ValueError: if a name is missing or too much, a value lies outside of its dimension, a
            configuration stands twice, ``scores`` has another shape or holds NaN, or half of the
            configurations failed.

    Example:
        >>> import numpy as np, metahpo as mh
        >>> space = {"rate": mh.Float(0.01, 1.0, log=True), "kind": mh.Choice(("sgd", "adam"))}
        >>> rows = {"rate": [0.01, 0.1, 1.0] * 2, "kind": ["sgd"] * 3 + ["adam"] * 3}
        >>> found = table(space, rows, np.arange(12.0).reshape(6, 2))
        >>> found.best, found.median
        (0.5, 5.5)
    """
    if set(space) != set(configurations):
        raise ValueError(
            f"configurations must have the names of the space, {sorted(space)}, "
            f"got {sorted(configurations)}"
        )
    columns = np.stack([_column(n, dim, configurations[n]) for n, dim in space.items()], axis=1)
    scores = np.array(scores, np.float64)
    if scores.ndim not in (2, 3) or len(scores) != len(columns) or not scores.size:
        raise ValueError(
            f"scores must be [configurations, repeats] or [configurations, repeats, epochs] with "
            f"{len(columns)} configurations, got the shape {scores.shape}"
        )
    if np.isnan(scores).any():
        row = int(np.argwhere(np.isnan(scores))[0, 0])
        raise ValueError(
            f"scores must be numbers, inf for a failure, got NaN for configuration {row}; leave "
            "out what was not evaluated"
        )
    rows, counts = np.unique(columns, axis=0, return_counts=True)
    if len(rows) < len(columns):
        raise ValueError(f"a configuration must stand once, got {rows[counts.argmax()]} repeatedly")
    scores = scores.reshape(*scores.shape[:2], -1)
    losses = scores[..., -1].mean(axis=1)
    if not np.isfinite(np.median(losses)):
        raise ValueError("more than half of the configurations must have finite scores")
    columns.flags.writeable = scores.flags.writeable = False
    named = {name: tuple(listed) for name, listed in (values or {}).items()}
    return Table(dict(space), named, columns, scores, float(losses.min()), float(np.median(losses)))


def _column(name: str, dim: Dimension, values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """``f64[N]``: the numbers of a column, the index of a choice."""
    if not isinstance(dim, Dimension) or dim.shape:
        raise ValueError(f"a table's dimensions must be scalars, got {dim!r} for {name}")
    if isinstance(dim, Choice):
        if unknown := [value for value in values if value not in dim.values]:
            raise ValueError(f"{name} must be one of {dim.values}, got {unknown[0]!r}")
        return np.array([dim.values.index(value) for value in values], np.float64)
    numbers = np.asarray(values, np.float64)
    inside = (numbers >= dim.low) & (numbers <= dim.high)
    if isinstance(dim, Int):
        inside &= numbers == np.round(numbers)
    if not inside.all():
        raise ValueError(f"{name} must lie in {dim}, got {numbers[~inside][0]:g}")
    return numbers


def is_ordered(dim: Dimension) -> bool:
    """Whether some values lie nearer to one another than others."""
    return isinstance(dim, Float | Int)
