"""Shapes that many tables share, so that a program compiled for one serves the next."""

FEWEST_ROWS, FEWEST_COLUMNS, FEWEST_CODES, FEWEST_CLASSES = 256, 8, 2, 4
CHUNK = 8192
"""The most rows that are predicted at once."""


def rows(n: int) -> int:
    """256, 512, ... at least ``n``.

    Example:
        >>> rows(1), rows(256), rows(257)
        (256, 256, 512)
    """
    return _doubled(FEWEST_ROWS, n)


def columns(n: int) -> int:
    """8, 16, 24, 32, 48, 64, 96, ... at least ``n``; work grows with the square.

    Example:
        >>> columns(20), columns(33)
        (24, 48)
    """
    size = _doubled(FEWEST_COLUMNS, n)
    return size * 3 // 4 if size > 16 and n <= size * 3 // 4 else size


def codes(n: int) -> int:
    """Of columns of codes: 0, or 2, 4, ... at least ``n``; most tables have none."""
    return _doubled(FEWEST_CODES, n) if n else 0


def classes(n: int) -> int:
    """Of more than two classes: 4, 8, ... at least ``n``."""
    return _doubled(FEWEST_CLASSES, n)


def _doubled(size: int, n: int) -> int:
    while size < n:
        size *= 2
    return size
