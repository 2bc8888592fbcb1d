"""Which rows validate together."""

from typing import Any

import numpy as np

from metahpo import checks


def folds(
    n: int,
    count: int,
    seed: int,
    classes: np.ndarray | None = None,
    groups: Any = None,
) -> np.ndarray:
    """``i32[n]``: the fold in which each row validates; in all others it trains.

    Args:
        n: rows.
        count: folds.
        seed: of the random order.
        classes: ``i[n]``; with it, each fold has of every class as many rows as any other, give or
            take one (rows of groups: as nearly as a greedy assignment gets).
        groups: ``[n]``; rows of one group are in one fold.

    Raises:
        ValueError: for fewer than two folds, fewer rows or groups than folds, or groups of another
            length.

    Example:
        >>> np.bincount(folds(10, 5, seed=0)).tolist()
        [2, 2, 2, 2, 2]
        >>> folds(4, 2, seed=0, groups=["a", "b", "a", "b"]).tolist()
        [0, 1, 0, 1]
    """
    count = checks.whole("folds", count, at_least=2)
    labels = np.zeros(n, int) if classes is None else np.asarray(classes)
    if groups is not None:
        return _grouped(n, count, seed, labels, np.asarray(groups))
    if n < count:
        raise ValueError(f"there must be at least as many rows as folds ({count}), got {n}")
    generator = np.random.default_rng(seed)
    order = generator.permutation(n)
    order = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(n, np.int32)
    found[order] = np.arange(n) % count
    return found


def _grouped(n: int, count: int, seed: int, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The largest group first, each to the fold whose counts of classes it leaves most even."""
    if groups.shape != (n,):
        raise ValueError(f"groups must be one a row, [{n}], got the shape {groups.shape}")
    names, member = np.unique(groups.astype(str), return_inverse=True)
    if len(names) < count:
        raise ValueError(
            f"there must be at least as many groups as folds ({count}), got {len(names)}"
        )
    table = np.zeros((len(names), int(labels.max()) + 1))
    np.add.at(table, (member, labels), 1.0)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-table[shuffled].sum(1), kind="stable")]
    held, where = np.zeros((count, table.shape[1])), np.empty(len(names), np.int32)
    whole = np.maximum(table.sum(0), 1.0)
    for place, group in enumerate(order):
        after = (held + table[group]) / whole
        uneven = (after**2).sum(1) - ((held / whole) ** 2).sum(1)
        # No fold may stay empty.
        left, empty = len(order) - place, held.sum(1) == 0
        where[group] = np.argmin(np.where(empty | (left > empty.sum()), uneven, np.inf))
        held[where[group]] += table[group]
    return where[member]
