"""Columns of numbers, categories and dates as arrays of numbers, by rules learned once."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from metahpo.automl.tables.columns import Columns
from metahpo.automl.tables.dates import PARTS, parts_of, seconds

ONE_HOT = 16
"""The most values of a category that have an indicator each."""
LEVELS = 255
"""The most values of a category that have a code; rarer ones share the last of ``LEVELS + 1``."""
_IDENTIFIERS = 20  # texts that are all different among so many rows and more


class Rule(NamedTuple):
    """How a column becomes numbers.

    Attributes:
        name: of the column.
        kind: ``"number"``, ``"category"``, ``"date"``, or ``"left out"`` (it says nothing).
        centre: that numbers are taken relative to, of each of a date's parts.
        scale: unit of the numbers.
        levels: of a category, the values as texts, the most frequent first.
        missing: whether an indicator says where a value is missing.
        why: it is left out.
    """

    name: str
    kind: str
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    missing: bool = False
    why: str = ""


class Encoder(NamedTuple):
    """What turns tables like the one that it was learned from into arrays.

    Attributes:
        rules: one a column, in order.
        named: whether the columns have names of their own.
    """

    rules: tuple[Rule, ...]
    named: bool

    @property
    def numbers(self) -> list[str]:
        """The names of the columns of numbers that ``encode`` makes."""
        return [name for rule in self.rules for name in _numbers(rule)]

    @property
    def codes(self) -> list[str]:
        """The names of the columns that ``encode`` gives as codes."""
        return [rule.name for rule in self.rules if _has_code(rule)]


def learn(columns: Columns) -> Encoder:
    """Rules for a table; nothing of the target is looked at.

    A column of which nothing is known, one with a single value, and texts that are all different
    are left out, the last with a warning.

    Raises:
        ValueError: for infinite numbers.

    Example:
        >>> from metahpo.automl.tables.columns import read
        >>> encoder = learn(read({"age": [30.0, None, 41.0], "town": ["Rome", "Oslo", "Rome"]}))
        >>> encoder.numbers
        ['age', 'age is missing', 'town = Rome']
    """
    rules = tuple(
        _rule(name, values) for name, values in zip(columns.names, columns.values, strict=True)
    )
    return Encoder(rules, columns.named)


def encode(encoder: Encoder, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """A table as numbers, missing ones NaN, and categories as codes.

    Returns:
        ``f32[n, numbers]`` and ``i32[n, codes]``; a value that was not there when the rules were
        learned has the code ``LEVELS`` and no indicator.

    Raises:
        ValueError: for columns other than those of the rules, or infinite numbers.
    """
    columns = _matched(encoder, columns)
    numbers: list[np.ndarray] = []
    codes: list[np.ndarray] = []
    for rule, values in zip(encoder.rules, columns.values, strict=True):
        if rule.kind == "category":
            code = _codes(rule, values)
            shown = rule.levels if _one_hot(rule) else ()
            numbers += [(code == i).astype(np.float32) for i in range(len(shown))][: _width(rule)]
            codes += [code] if _has_code(rule) else []
        elif rule.kind != "left out":
            found = _parts(rule, values)
            for part, centre, scale in zip(found, rule.centre, rule.scale, strict=True):
                numbers.append(((part - centre) / scale).astype(np.float32))
            numbers += [np.isnan(found[0]).astype(np.float32)] if rule.missing else []
    n = columns.rows
    x = np.stack(numbers, axis=1) if numbers else np.zeros((n, 0), np.float32)
    return x, np.stack(codes, axis=1) if codes else np.zeros((n, 0), np.int32)


def _parts(rule: Rule, values: np.ndarray) -> np.ndarray:
    """``f64[parts, n]`` of a column of numbers or dates."""
    if rule.kind == "number":
        return _as_numbers(rule.name, values)[None]
    if is_missing(values).all():
        return np.full((len(PARTS), len(values)), np.nan)
    if (when := seconds(values)) is None:
        raise ValueError(f"the column {rule.name!r} must be dates as in fit, got {values[:3]!r}")
    return parts_of(when)


def _matched(encoder: Encoder, columns: Columns) -> Columns:
    wanted = [rule.name for rule in encoder.rules]
    if encoder.named and columns.named:
        missing = [name for name in wanted if name not in columns.names]
        more = [name for name in columns.names if name not in wanted]
        if missing or more:
            raise ValueError(
                "The feature names should match those that were passed during fit: "
                f"columns that are missing {missing[:5]}, that were unseen at fit time {more[:5]}"
            )
        if list(columns.names) != wanted:
            raise ValueError(
                "The feature names should match those that were passed during fit. Feature names "
                "must be in the same order as they were in fit."
            )
    if len(columns.names) != len(wanted):
        raise ValueError(
            f"X has {len(columns.names)} features, but it is expecting {len(wanted)} features as "
            "input, those of fit"
        )
    return columns


def _rule(name: str, values: np.ndarray) -> Rule:
    gone = is_missing(values)
    known = values[~gone]
    if not len(known):
        return Rule(name, "left out", why="nothing is known")
    if _is_number(known):
        return _of_parts(name, "number", _as_numbers(name, values)[None], gone)
    if (when := seconds(values)) is not None:
        return _of_parts(name, "date", parts_of(when), gone)
    texts, counts = np.unique(known.astype(str), return_counts=True)
    if len(texts) == len(values) and len(values) >= _IDENTIFIERS:
        warnings.warn(
            f"the column {name!r} is left out: its {len(values)} values are all different, as "
            "those of an identifier",
            stacklevel=4,
        )
        return Rule(name, "left out", why="all values are different")
    levels = [str(texts[i]) for i in np.argsort(-counts, kind="stable")][:LEVELS]
    if gone.any():
        levels = [*levels[: LEVELS - 1], _MISSING]
    if len(levels) == 1:
        return Rule(name, "left out", why="it has a single value")
    return Rule(name, "category", levels=tuple(levels))


_MISSING = "(missing)"


def _of_parts(name: str, kind: str, parts: np.ndarray, gone: np.ndarray) -> Rule:
    """Robust centres and units, so that single precision holds what differs."""
    known = parts[:, ~gone]
    centre = np.median(known, axis=1)
    low, high = np.quantile(known, (0.25, 0.75), axis=1)
    spread = np.where(high > low, high - low, known.max(1) - known.min(1))
    if not (spread > 0).any() and not gone.any():
        return Rule(name, "left out", why="it has a single value")
    scale = np.where(spread > 0, spread, 1.0)
    return Rule(name, kind, tuple(centre.tolist()), tuple(scale.tolist()), missing=bool(gone.any()))


def is_missing(values: np.ndarray) -> np.ndarray:
    """``bool[n]``: where there is no value: NaN, ``None``, or one that does not equal itself."""
    if values.dtype.kind in "fMm":
        return np.isnan(values) if values.dtype.kind == "f" else np.isnat(values)
    if values.dtype.kind != "O":
        return np.zeros(len(values), bool)
    return np.array([_is_gone(value) for value in values], bool)


def _is_gone(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # the missing value of pandas is neither true nor false
        return True


def _is_number(known: np.ndarray) -> bool:
    if known.dtype.kind in "biuf":
        return True
    return known.dtype.kind == "O" and all(
        isinstance(v, bool | int | float | np.number | np.bool_) for v in known
    )


def _as_numbers(name: str, values: np.ndarray) -> np.ndarray:
    try:
        if values.dtype.kind == "O":
            gone = is_missing(values)
            values = np.where(gone, np.nan, values)
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the column {name!r} must be numbers as in fit, got {values[:3]!r}: {error}"
        ) from error
    if np.isinf(numbers).any():
        raise ValueError(f"X contains infinity in the column {name!r}; missing values are NaN")
    return numbers


def _codes(rule: Rule, values: np.ndarray) -> np.ndarray:
    known = {level: i for i, level in enumerate(rule.levels)}
    gone = is_missing(values)
    texts = [_MISSING if out else str(v) for v, out in zip(values.tolist(), gone, strict=True)]
    return np.array([known.get(text, LEVELS) for text in texts], np.int32)


def _one_hot(rule: Rule) -> bool:
    return len(rule.levels) <= ONE_HOT


def _width(rule: Rule) -> int:
    """Indicators of a category; one tells two values apart."""
    return 1 if len(rule.levels) == 2 else len(rule.levels)


def _has_code(rule: Rule) -> bool:
    return rule.kind == "category" and len(rule.levels) > 2


def _numbers(rule: Rule) -> list[str]:
    if rule.kind == "left out":
        return []
    if rule.kind == "category":
        levels = rule.levels if _one_hot(rule) else ()
        return [f"{rule.name} = {level}" for level in levels][: _width(rule)]
    parts = [rule.name] if rule.kind == "number" else [f"{rule.name}, {part}" for part in PARTS]
    return parts + ([f"{rule.name} is missing"] if rule.missing else [])
