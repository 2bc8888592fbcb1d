"""A descriptor of a table of examples: what it looks like, and how simple learners fare on it."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from metahpo import checks
from metahpo.transfer import landmarks

MOST_BINS = 10
MOST_ROWS = 2000  # of those statistics that look at pairs
FRACTION = 0.95
_MOMENTS = ("kurtosis", "max", "mean", "median", "min", "skew", "std")

NAMES = (
    *(f"class_prob_{s}" for s in ("max", "mean", "median", "min", "std")),
    *(f"corr_with_dependent_abs_{s}" for s in ("25p", "75p", *_MOMENTS)),
    "diversity_fraction", "entropy_dependent",
    *(f"kurtosis_{s}" for s in _MOMENTS),
    "n_categorical", "n_classes", "n_columns", "n_numerical", "n_rows", "pca_fraction_95",
    "ratio_rowcol",
    *(f"skew_{s}" for s in _MOMENTS),
    *(f"symbols_{s}" for s in ("kurtosis", "max", "mean", "min", "skew", "std", "sum")),
    "log_rows", "log_columns", "log_ratio", "missing", "rows_missing", "columns_missing",
    "correlation_mean", "correlation_max", "outliers", "constant_columns", "binary_columns",
    "attribute_entropy_mean", "mutual_information_mean", "mutual_information_max",
    "equivalent_attributes", "noise_to_signal", "pca_first", "pca_skew", "pca_kurtosis",
    *landmarks.NAMES,
)  # fmt: skip
"""What ``describe`` tells, in its order; the first 44 are those of PMLB."""


def describe(
    x: Any,
    y: Any,
    *,
    categorical: Sequence[bool] | None = None,
    kind: Literal["classification", "regression"] | None = None,
) -> dict[str, float]:
    """Numbers that describe a task of supervised learning on a table.

    Simple ones (rows, columns, classes), statistical ones (skewness, kurtosis, correlations,
    principal components), information-theoretic ones (entropies, mutual information in bins of
    equal counts, in nats) and landmarks, the scores of simple learners.  A number that a task
    does not have is NaN: classes in regression, correlations with the target in classification.
    Statistics of symbols are 0 where no column is categorical, as PMLB has it.

    Missing values (NaN and ``None``) are left out of the statistics of their column; where all
    columns are looked at together they are the column's mean, or a symbol of their own.  What looks
    at pairs of columns or rows sees evenly spaced rows, 2,000 at most, landmarks 500, so the result
    depends on the order of the rows.

    Args:
        x: ``[N, F]``, numbers, or objects such as texts.
        y: ``[N]``, labels of any kind, or numbers.
        categorical: which columns are; those with text or truth values by default.
        kind: by default regression if ``y`` has fractions, or more than 100 different numbers.

    Returns:
        A dict with the names of ``NAMES``.

    Raises:
        ValueError: for other shapes, fewer than two rows, missing targets, or infinite numbers.

    Source:
        The 44 of PMLB as its repository computes them (Olson et al. 2017); the others as in
        Brazdil, Giraud-Carrier, Soares & Vilalta, "Metalearning" (2009), chapter 2; landmarks of
        Pfahringer, Bensusan & Giraud-Carrier (2000).

    Example:
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.2, 0.9]])
        >>> found = describe(x, np.array(["a", "b", "b", "a"]))
        >>> found["n_rows"], found["n_classes"], round(found["entropy_dependent"], 3)
        (4.0, 2.0, 0.693)
    """
    columns, target = _columns(x), np.asarray(y)
    if target.shape != (len(columns[0]),):
        raise ValueError(f"y must be [{len(columns[0])}] as x has rows, got shape {target.shape}")
    if len(target) < 2:
        raise ValueError(f"there must be at least two rows, got {len(target)}")
    checks.one_of("kind", kind, (None, "classification", "regression"))
    symbolic = [column.dtype.kind not in "iuf" for column in columns]
    if categorical is not None:
        if len(categorical) != len(columns):
            raise ValueError(f"categorical must have {len(columns)} flags, got {len(categorical)}")
        symbolic = [bool(a) or b for a, b in zip(categorical, symbolic, strict=True)]
    numbers = _target(target, kind)
    classes, codes = (None, None) if numbers is not None else _classes(target)
    # Codes of symbols, -1 where missing, and numbers, NaN where missing.
    symbols = [_codes(c) for c, flag in zip(columns, symbolic, strict=True) if flag]
    plain = [_numeric(c) for c, flag in zip(columns, symbolic, strict=True) if not flag]
    coded = iter(symbols), iter(plain)
    ordered = [next(coded[0]).astype(float) if f else next(coded[1]) for f in symbolic]
    table = np.stack(ordered, axis=1)
    gone = np.stack([c < 0 if f else np.isnan(c) for c, f in zip(ordered, symbolic, strict=True)])
    filled = np.where(gone.T & ~np.array(symbolic), _column_means(table), table)
    some = np.unique(np.linspace(0, len(target) - 1, min(len(target), MOST_ROWS)).astype(int))
    found = dict.fromkeys(NAMES, np.nan)
    found |= _simple(len(target), symbolic, classes, gone)
    found |= _statistical(plain, symbols, filled, numbers, some)
    found |= _information(ordered, symbolic, codes, numbers, some)
    found |= landmarks.scores(filled, np.array(symbolic), codes, numbers)
    return {name: float(found[name]) for name in NAMES}


def _columns(x: Any) -> list[np.ndarray]:
    table = x.to_numpy() if hasattr(x, "to_numpy") else np.asarray(x)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"x must be [rows, columns], got the shape {table.shape}")
    return [_typed(column) for column in table.T]


def _typed(column: np.ndarray) -> np.ndarray:
    """Numbers as such, also those among objects."""
    if column.dtype.kind != "O":
        return column
    known = [value for value in column if value is not None and value == value]
    if all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in known):
        return np.array([np.nan if v is None else v for v in column], np.float64)
    return column


def _numeric(column: np.ndarray) -> np.ndarray:
    numbers = column.astype(np.float64)
    if np.isinf(numbers).any():
        raise ValueError("x must be finite, NaN where a value is missing")
    return numbers


def _codes(column: np.ndarray) -> np.ndarray:
    """``i64[N]``: numbers for symbols, -1 where there is none."""
    if column.dtype.kind == "O":
        gone = np.array([v is None or v != v for v in column])
    else:
        gone = np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), bool)
    codes = np.full(len(column), -1)
    if not gone.all():
        known = column[~gone]
        known = known.astype(str) if column.dtype.kind == "O" else known
        codes[~gone] = np.unique(known, return_inverse=True)[1]
    return codes


def _target(y: np.ndarray, kind: str | None) -> np.ndarray | None:
    """``f64[N]`` of a regression, ``None`` of a classification."""
    if any(value is None or value != value for value in y.tolist()):
        raise ValueError("y must not be missing anywhere")
    is_number = y.dtype.kind in "iuf"
    if kind is None:
        several = is_number and ((y != np.round(y)).any() or len(np.unique(y)) > 100)
        kind = "regression" if several else "classification"
    if kind == "classification":
        return None
    if not is_number or np.isinf(y).any():
        raise ValueError("y must be finite numbers for a regression")
    return y.astype(np.float64)


def _classes(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of each class, and the codes."""
    labels = y.astype(str) if y.dtype.kind == "O" else y
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return counts / len(y), codes


def _column_means(table: np.ndarray) -> np.ndarray:
    has = ~np.isnan(table)
    return np.where(has, table, 0.0).sum(0) / np.maximum(has.sum(0), 1)


def _simple(
    rows: int, symbolic: list[bool], classes: np.ndarray | None, gone: np.ndarray
) -> dict[str, float]:
    columns = len(symbolic)
    found = {
        "n_categorical": sum(symbolic),
        "n_numerical": columns - sum(symbolic),
        "n_columns": columns + 1,  # with the target
        "n_rows": rows,
        "ratio_rowcol": rows / (columns + 1),
        "log_rows": np.log(rows),
        "log_columns": np.log(columns),
        "log_ratio": np.log(rows / columns),
        "missing": gone.mean(),
        "rows_missing": gone.any(0).mean(),
        "columns_missing": gone.any(1).mean(),
    }
    if classes is not None:
        entropy = -(classes * np.log(classes)).sum()
        found |= {"n_classes": len(classes), "entropy_dependent": entropy}
        found["diversity_fraction"] = np.exp(entropy) / len(classes)
        found |= _summary("class_prob", classes, ("max", "mean", "median", "min", "std"), 1)
    return found


def _statistical(
    plain: list[np.ndarray],
    symbols: list[np.ndarray],
    filled: np.ndarray,
    target: np.ndarray | None,
    some: np.ndarray,
) -> dict[str, float]:
    found: dict[str, float] = {}
    table = np.stack(plain, axis=1) if plain else np.zeros((len(filled), 0))
    found |= _summary("skew", skewness(table), _MOMENTS)
    found |= _summary("kurtosis", kurtosis(table), _MOMENTS)
    counts = np.array([len(np.unique(c[c >= 0])) for c in symbols], float)
    names = ("kurtosis", "max", "mean", "min", "skew", "std")
    found |= (
        _summary("symbols", counts, names)
        if symbols
        else dict.fromkeys([f"symbols_{name}" for name in names], 0.0)
    )
    found["symbols_sum"] = counts.sum()
    variance = _principal(filled)
    total = variance.sum()
    if total > 0:
        shares = variance / total
        found["pca_fraction_95"] = _components(shares) / len(shares)
        found["pca_first"] = shares[0]
    part = filled[some]
    scaled = part - part.mean(0)
    spread = scaled.std(0)
    scaled = np.divide(scaled, spread, out=np.zeros_like(scaled), where=spread > 0)
    found["constant_columns"] = (spread == 0).mean()
    found["binary_columns"] = float(np.mean([len(np.unique(column)) == 2 for column in part.T]))
    found["outliers"] = (np.abs(scaled) > 3).mean()
    if filled.shape[1] > 1:
        between = np.abs(scaled.T @ scaled / len(scaled))[np.triu_indices(filled.shape[1], 1)]
        found |= {"correlation_mean": between.mean(), "correlation_max": between.max()}
    values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    first = scaled @ vectors[:, values.argmax()]
    # The sign of a component means nothing.
    found["pca_skew"] = abs(skewness(first[:, None])[0])
    found["pca_kurtosis"] = kurtosis(first[:, None])[0]
    if target is not None:
        found |= _with_target(filled, target)
    return found


def _with_target(filled: np.ndarray, target: np.ndarray) -> dict[str, float]:
    x, y = filled - filled.mean(0), target - target.mean()
    scale = np.sqrt((x**2).sum(0) * (y**2).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        strength = np.abs(x.T @ y) / scale
    strength = strength[np.isfinite(strength)]
    name = "corr_with_dependent_abs"
    found = _summary(name, strength, _MOMENTS)
    if len(strength):
        low, high = np.percentile(strength, (25, 75))
        found |= {f"{name}_25p": low, f"{name}_75p": high}
    return found


def _information(
    columns: list[np.ndarray],
    symbolic: list[bool],
    codes: np.ndarray | None,
    target: np.ndarray | None,
    some: np.ndarray,
) -> dict[str, float]:
    """In nats, of numbers in bins of equal counts."""
    y = codes[some] if codes is not None else _binned(np.asarray(target)[some])
    entropies, shared = [], []
    for column, flag in zip(columns, symbolic, strict=True):
        x = column[some].astype(int) + 1 if flag else _binned(column[some])
        joint = np.bincount(x * (y.max() + 1) + y) / len(y)
        entropies.append(_entropy(np.bincount(x) / len(x)))
        shared.append(entropies[-1] + _entropy(np.bincount(y) / len(y)) - _entropy(joint))
    entropy, information = np.array(entropies), np.maximum(shared, 0.0)
    found = {
        "attribute_entropy_mean": entropy.mean(),
        "mutual_information_mean": information.mean(),
        "mutual_information_max": information.max(),
    }
    if information.mean() > 0:
        found["equivalent_attributes"] = _entropy(np.bincount(y) / len(y)) / information.mean()
        found["noise_to_signal"] = (entropy.mean() - information.mean()) / information.mean()
    return found


def _binned(numbers: np.ndarray) -> np.ndarray:
    """``i64[N]``: bins of equal counts; missing ones are a bin of their own."""
    known = ~np.isnan(numbers)
    bins = np.zeros(len(numbers), int)
    if known.any():
        edges = np.unique(np.quantile(numbers[known], np.arange(1, MOST_BINS) / MOST_BINS))
        bins[known] = 1 + np.searchsorted(edges, numbers[known])
    return bins


def _entropy(shares: np.ndarray) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def _principal(filled: np.ndarray) -> np.ndarray:
    """Variances along the principal components, the largest first; as many as there can be."""
    centred = filled - filled.mean(0)
    few = centred if len(centred) >= centred.shape[1] else centred.T
    variance = np.linalg.eigvalsh(few.T @ few)[::-1] / (len(filled) - 1)
    return np.maximum(variance, 0.0)


def _components(shares: np.ndarray) -> int:
    """How many explain 95 % of the variance."""
    return int(np.searchsorted(np.cumsum(shares), FRACTION - 1e-12) + 1)


def skewness(table: np.ndarray) -> np.ndarray:
    """``f64[F]``: the adjusted one (G1), without what is NaN; of two values as it is.

    Of a constant it is 0.
    """
    n, m2, m3, _ = _central(table)
    with np.errstate(invalid="ignore", divide="ignore"):
        g1 = np.where(m2 > 0, m3 / m2**1.5, 0.0)
        adjusted = g1 * np.sqrt(n * (n - 1)) / (n - 2)
    return np.where((n > 2) & (m2 > 0), adjusted, np.where(n > 0, g1, np.nan))


def kurtosis(table: np.ndarray) -> np.ndarray:
    """``f64[F]``: the adjusted excess (G2), without what is NaN; of three values as it is.

    Of a constant it is -3, as PMLB has it.
    """
    n, m2, _, m4 = _central(table)
    with np.errstate(invalid="ignore", divide="ignore"):
        g2 = np.where(m2 > 0, m4 / m2**2, 0.0) - 3
        adjusted = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * g2 + 6)
    return np.where((n > 3) & (m2 > 0), adjusted, np.where(n > 0, g2, np.nan))


def _central(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Counts and the second to fourth central moments of every column."""
    has = ~np.isnan(table)
    n = has.sum(0).astype(float)
    mean = np.where(has, table, 0.0).sum(0) / np.maximum(n, 1)
    apart = np.where(has, table - mean, 0.0)
    # A constant whose mean is rounded has no spread.
    apart = np.where(np.abs(apart) <= 1e-12 * np.abs(mean), 0.0, apart)
    square = apart * apart
    moments = [(part).sum(0) / np.maximum(n, 1) for part in (square, square * apart, square**2)]
    return n, moments[0], moments[1], moments[2]


def _summary(
    name: str, values: np.ndarray, which: Sequence[str], ddof: int = 0
) -> dict[str, float]:
    """Statistics of some numbers; none where there are none."""
    values = values[~np.isnan(values)]
    if not len(values):
        return {}
    table = values[:, None]
    of: dict[str, Callable[[], float]] = {
        "max": values.max,
        "mean": values.mean,
        "median": lambda: np.median(values),
        "min": values.min,
        "std": lambda: values.std(ddof=min(ddof, len(values) - 1)),
        "skew": lambda: skewness(table)[0],
        "kurtosis": lambda: kurtosis(table)[0],
    }  # type: ignore[dict-item]
    return {f"{name}_{each}": of[each]() for each in which}
