"""Rows of data cut into what trains, what validates and what tests."""

from typing import NamedTuple

import chex

from metahpo import checks
from metahpo.problems.few_shot import Examples


class Split(NamedTuple):
    """A task with a part that nobody sees before the final report."""

    support: Examples
    query: Examples
    test: Examples


def split(
    x: chex.Array, y: chex.Array, train: int, validation: int, weight: chex.Array | None = None
) -> Split:
    """Cuts rows in their order; permute them first for a random cut.

    Args:
        x: ``f[n, ...]``, inputs.
        y: ``[n, ...]``, targets.
        train: rows of the support part, at least 1.
        validation: rows of the query part, at least 1; the test part has all the others.
        weight: ``f[n]``, how much each row counts; all alike without.

    Raises:
        ValueError: for a part without rows.

    Example:
        >>> import numpy as np
        >>> [len(part.y) for part in split(np.ones((10, 2)), np.ones(10), 5, 3)]
        [5, 3, 2]
    """
    train = checks.whole("train", train, at_least=0)
    validation = checks.whole("validation", validation, at_least=0)
    if min(train, validation, len(y) - train - validation) < 1:
        raise ValueError(
            f"every part must have rows, got {train=} and {validation=} of {len(y)} in all"
        )
    ends = (0, train, train + validation, len(y))
    rows = (slice(*pair) for pair in zip(ends[:-1], ends[1:], strict=True))
    weights = (lambda part: None) if weight is None else (lambda part: weight[part])
    return Split(*(Examples(x[part], y[part], weights(part)) for part in rows))
