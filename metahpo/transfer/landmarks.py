"""How simple learners fare on a table: landmarks for a task's descriptor."""

import numpy as np

MOST_ROWS = 500
FOLDS = 2
RIDGE = 1e-2  # of standardised columns
LEAST_VARIANCE = 1e-3
THRESHOLDS = 16  # of a stump, in each column

NAMES = tuple(
    f"landmark_{name}"
    for name in ("baseline", "nearest_neighbour", "linear", "naive_bayes", "stump")
)
"""Balanced accuracies, in regression the explained share of the variance."""


def scores(
    x: np.ndarray, symbolic: np.ndarray, codes: np.ndarray | None, target: np.ndarray | None
) -> dict[str, float]:
    """What simple learners reach by cross-validation on evenly spaced rows.

    Args:
        x: ``f[N, F]``, complete; codes of symbols, -1 where there is none.
        symbolic: ``bool[F]``, which columns are symbols; these become indicators of their ten most
            frequent values.
        codes: ``i[N]`` of the classes, or ``None``.
        target: ``f[N]``, or ``None``.

    Returns:
        By the names of ``NAMES``; NaN for classes that only one row has, or a constant target.
    """
    count = len(x)
    some = np.unique(np.linspace(0, count - 1, min(count, MOST_ROWS)).astype(int))
    features = _standardised(_indicators(x[some], symbolic))
    if codes is None:
        assert target is not None
        y = target[some] - target[some].mean()
        if y.std() == 0:
            return {}
        y = y[:, None] / y.std()
    else:
        _, kinds = np.unique(codes[some], return_inverse=True)
        y = np.eye(kinds.max() + 1)[kinds]
        if y.shape[1] < 2:
            return {}
    fold = _folds(y if codes is not None else None, len(some))
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        if not train.any() or not test.any():
            return {}
        guesses = (
            np.repeat(y[train].mean(0)[None], test.sum(), 0),
            _nearest(features[train], y[train], features[test]),
            _linear(features[train], y[train], features[test]),
            _bayes(features[train], y[train], features[test], codes is not None),
            _stump(features[train], y[train], features[test]),
        )
        for name, guess in zip(NAMES, guesses, strict=True):
            found[name].append(_score(guess, y[test], codes is not None))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _folds(classes: np.ndarray | None, count: int) -> np.ndarray:
    """Of every class the rows in turn."""
    if classes is None:
        return np.arange(count) % FOLDS
    place = (np.cumsum(classes, axis=0) * classes).sum(1).astype(int)
    return place % FOLDS


def _indicators(x: np.ndarray, symbolic: np.ndarray) -> np.ndarray:
    parts = [x[:, ~symbolic]]
    for column in x[:, symbolic].T:
        values, counts = np.unique(column, return_counts=True)
        for value in values[np.argsort(-counts, kind="stable")[:10]]:
            parts.append((column == value)[:, None].astype(float))
    return np.concatenate(parts, axis=1)


def _standardised(x: np.ndarray) -> np.ndarray:
    spread = x.std(0)
    return (x - x.mean(0)) / np.where(spread > 1e-12, spread, 1.0)


def _nearest(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    apart = (x**2).sum(1)[None] - 2 * new @ x.T
    return y[apart.argmin(1)]


def _linear(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Ridge regression, in classification on indicators of equal weight for every class."""
    share = y.mean(0)
    weight = (y / np.where(share > 0, share, 1.0)).sum(1) if y.shape[1] > 1 else np.ones(len(y))
    centre, middle = (weight @ x) / weight.sum(), (weight @ y) / weight.sum()
    a, b = x - centre, y - middle
    left = (a * weight[:, None]).T @ a + RIDGE * len(x) * np.eye(x.shape[1])
    coefficients = np.linalg.solve(left, (a * weight[:, None]).T @ b)
    return middle + (new - centre) @ coefficients


def _bayes(x: np.ndarray, y: np.ndarray, new: np.ndarray, classes: bool) -> np.ndarray:
    """Gaussian, with equal weight for every class; in regression the mean of simple regressions."""
    if not classes:
        slope = x.T @ y / np.maximum((x**2).sum(0), 1e-12)[:, None]
        return new @ slope / x.shape[1]
    counts = np.maximum(y.sum(0), 1.0)
    means = (y.T @ x) / counts[:, None]
    variances = np.maximum((y.T @ x**2) / counts[:, None] - means**2, LEAST_VARIANCE)
    apart = (
        (new**2) @ (1 / variances).T
        - 2 * new @ (means / variances).T
        + (means**2 / variances).sum(1)
    )
    density = -(apart + np.log(variances).sum(1)) / 2
    return np.where(y.sum(0) > 0, density, -np.inf)


def _stump(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """One split, the one that explains most of the targets' variance."""
    weights = y / np.maximum(y.mean(0), 1e-12) if y.shape[1] > 1 else y
    best = (-np.inf, 0, 0.0)
    levels = np.linspace(0, 1, THRESHOLDS + 2)[1:-1]
    thresholds = np.quantile(x, levels, axis=0)
    for column in range(x.shape[1]):
        below = x[:, column] <= thresholds[:, column, None]
        n = below.sum(1)
        inside = below.astype(float) @ weights
        outside = weights.sum(0) - inside
        gain = (inside**2).sum(1) / np.maximum(n, 1)
        gain += (outside**2).sum(1) / np.maximum(len(x) - n, 1)
        place = int(gain.argmax())
        if gain[place] > best[0]:
            best = (float(gain[place]), column, float(thresholds[place, column]))
    _, column, threshold = best
    side = x[:, column] <= threshold
    leaves = [weights[s].mean(0) if s.any() else weights.mean(0) for s in (~side, side)]
    return np.stack(leaves)[(new[:, column] <= threshold).astype(int)]


def _score(guess: np.ndarray, y: np.ndarray, classes: bool) -> float:
    if not classes:
        return float(1 - ((guess - y) ** 2).mean() / y.var())
    right = guess.argmax(1) == y.argmax(1)
    counts = y.sum(0)
    return float(((right @ y)[counts > 0] / counts[counts > 0]).mean())
