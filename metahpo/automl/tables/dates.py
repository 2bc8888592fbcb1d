"""Dates as numbers."""

import re

import numpy as np

PARTS = ("time", "month", "day of week", "hour")
"""What is told of a date: seconds since 1970, 0-11, 0-6 from Monday, 0-23."""

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?Z?$")


def seconds(values: np.ndarray) -> np.ndarray | None:
    """``f64[n]`` seconds since 1970, NaN where missing; ``None`` if these are no dates.

    Args:
        values: ``[n]`` of numpy's dates, Python's, or texts as ISO 8601 has them, without zones
            other than Z.

    Example:
        >>> seconds(np.array(["1970-01-02", None, "1970-01-01 00:01"], object)).tolist()
        [86400.0, nan, 60.0]
    """
    if values.dtype.kind == "M":
        return _of_dates(values)
    if values.dtype.kind not in "OU":
        return None
    texts: list[str] = []
    for value in values.tolist():
        text = "NaT" if value is None or value != value else _text(value)
        if text is None:
            return None
        texts.append(text)
    if all(text == "NaT" for text in texts):
        return None
    try:
        return _of_dates(np.array(texts, "datetime64[ms]"))
    except ValueError:  # the 31st of February
        return None


def parts_of(seconds: np.ndarray) -> np.ndarray:
    """``f64[len(PARTS), n]`` of seconds ``f64[n]``."""
    gone = np.isnan(seconds)
    when = np.where(gone, 0.0, seconds)
    months = (when * 1e3).astype("datetime64[ms]").astype("datetime64[M]").astype(int) % 12
    days = np.floor(when / 86400)
    # The 1st of January 1970 was a Thursday.
    found = np.stack([when, months, (days + 3) % 7, np.floor(when / 3600) % 24])
    return np.where(gone, np.nan, found)


def _text(value: object) -> str | None:
    text = value.isoformat() if hasattr(value, "isoformat") else value
    if not isinstance(text, str) or not _ISO.match(text.strip()):
        return None
    return text.strip().removesuffix("Z")


def _of_dates(values: np.ndarray) -> np.ndarray:
    gone = np.isnat(values)
    found = values.astype("datetime64[ms]").astype(np.int64) / 1e3
    return np.where(gone, np.nan, found)
