"""How much of a run's losses each hyperparameter explains by itself (functional ANOVA)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metahpo import space as spaces
from metahpo._extras import require
from metahpo.report.data import Interval

_FEWEST = 8


class _Leaves(NamedTuple):
    """The leaves of a regression tree: boxes of the unit cube, and a value in each."""

    low: np.ndarray  # [L, D]
    high: np.ndarray  # [L, D]
    value: np.ndarray  # [L]


def importance(
    space: spaces.Space, result: Any, *, samples: int = 24, trees: int = 16, seed: int = 0
) -> dict[str, Interval]:
    """The share of the losses' variance that each hyperparameter explains by itself.

    Random forests are fitted to the ranks of the losses over the unit cube, and the variance of
    each tree is taken apart exactly, by the volumes of its leaves (Hutter, Hoos and Leyton-Brown,
    2014, "An efficient approach for assessing hyperparameter importance").  What is missing to one
    is due to several hyperparameters together.  Ranks make it independent of the loss's scale;
    candidates without a finite loss rank last.

    Needs the extra ``data``.

    Args:
        space: that was searched.
        result: a ``SearchResult`` or ``MinimizeResult``, or its ``history``; several runs of one
            space side by side are taken together.
        samples: bootstrap samples of the candidates; a forest is fitted to each.
        trees: of a forest.
        seed: of the samples.

    Returns:
        By coordinate, largest first, the mean over the forests and half of the range that holds
        95 % of them: how far the share may be off with so few candidates.

    Raises:
        ValueError: for fewer than 8 candidates, losses that are all equal, or another space.
        ImportError: if scikit-learn is not installed.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(-1.0, 1.0)}
        >>> result = mh.search(
        ...     jax.random.key(0), mh.problems.function(lambda h: 3 * h["x"] + h["y"]), space,
        ...     mh.strategies.random(space, population=128), rounds=1, steps=1,
        ... )
        >>> list(importance(space, result))
        ['x', 'y']
    """
    history = getattr(result, "history", result)
    names = list(spaces.dimensions(space))
    unit = np.asarray(history.unit, dtype=float)
    if unit.shape[-1] != len(names):
        raise ValueError(
            f"the run searched {unit.shape[-1]} coordinates, but the space has {len(names)}"
        )
    evaluated = np.asarray(history.budget).reshape(-1) > 0
    points = np.asarray(spaces.canonical(space, unit.reshape(-1, len(names))[evaluated]))
    losses = np.asarray(history.loss, dtype=float).reshape(-1)[evaluated]
    if len(losses) < _FEWEST:
        raise ValueError(f"importance needs at least {_FEWEST} candidates, got {len(losses)}")
    ranks = _ranks(np.where(np.isfinite(losses), losses, np.inf))
    if ranks.min() == ranks.max():
        raise ValueError("importance needs losses that differ, all are equal")
    forest = require("sklearn.ensemble", "data").RandomForestRegressor
    generator = np.random.default_rng(seed)
    found = []
    for number in range(samples):
        chosen = generator.integers(len(ranks), size=len(ranks))
        fitted = forest(trees, min_samples_leaf=2, max_features=0.7, random_state=seed + number)
        fitted.fit(points[chosen], ranks[chosen])
        each = [_shares(_leaves(tree.tree_, len(names))) for tree in fitted.estimators_]
        found.append(np.nanmean(each, axis=0))  # a tree of a single leaf has no variance
    shares = np.array(found)
    low, high = np.quantile(shares, [0.025, 0.975], axis=0)
    intervals = {
        name: Interval(shares[:, i].mean(), (high[i] - low[i]) / 2, samples)
        for i, name in enumerate(names)
    }
    return dict(sorted(intervals.items(), key=lambda item: -item[1].mean))


def _ranks(losses: ArrayLike) -> np.ndarray:
    """Ties get the mean of their ranks; infinities are equal."""
    values, inverse, counts = np.unique(losses, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse.reshape(-1)] if len(values) else np.zeros(0)


def _leaves(tree: Any, size: int) -> _Leaves:
    """From scikit-learn's arrays of nodes."""
    boxes = {0: (np.zeros(size), np.ones(size))}
    low, high, value = [], [], []
    for node in range(tree.node_count):  # children have higher numbers
        below, above = boxes.pop(node)
        left, right = tree.children_left[node], tree.children_right[node]
        if left < 0:
            low.append(below)
            high.append(above)
            value.append(float(tree.value[node].ravel()[0]))
            continue
        at, threshold = tree.feature[node], tree.threshold[node]
        middle_high, middle_low = above.copy(), below.copy()
        middle_high[at] = middle_low[at] = threshold
        boxes[left], boxes[right] = (below, middle_high), (middle_low, above)
    return _Leaves(np.array(low), np.array(high), np.array(value))


def _shares(leaves: _Leaves) -> np.ndarray:
    """``f[D]``, the variance of each coordinate's marginal, in parts of the whole variance."""
    lengths = leaves.high - leaves.low
    volume = lengths.prod(axis=1)
    mean = (volume * leaves.value).sum()
    whole = (volume * (leaves.value - mean) ** 2).sum()
    shares = np.full(lengths.shape[1], np.nan)
    if whole <= 0:
        return shares
    for i in range(lengths.shape[1]):
        edges = np.unique(np.concatenate([leaves.low[:, i], leaves.high[:, i]]))
        middle = (edges[:-1] + edges[1:]) / 2
        inside = (leaves.low[:, i, None] <= middle) & (middle < leaves.high[:, i, None])
        others = np.delete(lengths, i, axis=1).prod(axis=1)
        marginal = (others * leaves.value) @ inside
        shares[i] = (np.diff(edges) * (marginal - mean) ** 2).sum() / whole
    return shares
