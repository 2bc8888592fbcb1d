"""Tables as plain text, as Markdown, and on a terminal."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from metahpo._extras import require
from metahpo.report.data import Interval

Row = Mapping[str, Any]
STYLES = ("plain", "markdown")


def table(
    rows: Sequence[Row],
    columns: Sequence[str] | None = None,
    *,
    formats: Mapping[str, str] | None = None,
    style: str = "plain",
) -> str:
    """Lays rows out as a table.

    Args:
        rows: one mapping a row, from column names to values: strings, numbers, ``Interval``
            (written as mean +- half-width), ``None`` or nothing for an empty cell.
        columns: which columns, in what order; by default all, in the order of appearance.
        formats: format specifications by column name, such as ``{"loss": ".3f"}``; ``.4g`` for
            other floats.
        style: ``"plain"`` or ``"markdown"``.

    Returns:
        The lines, without a line break at the end.

    Raises:
        ValueError: for an unknown style, or a column that no row has.

    Example:
        >>> rows = [{"method": "grid", "loss": 0.25}, {"method": "random", "loss": 10.5}]
        >>> print(table(rows, formats={"loss": ".2f"}))
        method   loss
        ------  -----
        grid     0.25
        random  10.50
    """
    if style not in STYLES:
        raise ValueError(f"the style of a table must be one of {STYLES}, got {style!r}")
    names = _columns(rows, columns)
    right = _numeric(rows, names)
    cells = _cells(rows, names, formats or {})
    if style == "markdown":
        names = [_escaped(name) for name in names]
        cells = [[_escaped(cell) for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    lines = [
        [
            cell.rjust(w) if r else cell.ljust(w)
            for cell, w, r in zip(row, widths, right, strict=True)
        ]
        for row in [names, *cells]
    ]
    if style == "plain":
        rule = ["-" * width for width in widths]
        return "\n".join("  ".join(line).rstrip() for line in [lines[0], rule, *lines[1:]])
    rule = ["-" * (max(w, 3) - 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def print_table(
    rows: Sequence[Row],
    columns: Sequence[str] | None = None,
    *,
    formats: Mapping[str, str] | None = None,
    title: str = "",
    file: TextIO | None = None,
) -> None:
    """Prints a table: by ``rich`` on a terminal where it is installed, else as plain text.

    Args:
        rows: as for ``table``.
        columns: as for ``table``.
        formats: as for ``table``.
        title: a line above it.
        file: standard output without one.

    Example:
        >>> print_table([{"method": "grid", "loss": 0.25}], title="Digits")
        Digits
        method  loss
        ------  ----
        grid    0.25
    """
    file = sys.stdout if file is None else file
    try:
        rich = require("rich.table", "cli") if file.isatty() else None
    except ImportError:
        rich = None
    if rich is None:
        print(*filter(None, [title, table(rows, columns, formats=formats)]), sep="\n", file=file)
        return
    names = _columns(rows, columns)
    shown = rich.Table(title=_literal(title) if title else None, title_justify="left")
    for name, right in zip(names, _numeric(rows, names), strict=True):
        shown.add_column(_literal(name), justify="right" if right else "left")
    for row in _cells(rows, names, formats or {}):
        shown.add_row(*map(_literal, row))
    require("rich.console", "cli").Console(file=file).print(shown)


def _columns(rows: Sequence[Row], columns: Sequence[str] | None) -> list[str]:
    known = list(dict.fromkeys(name for row in rows for name in row))
    unknown = [name for name in columns or () if rows and name not in known]
    if unknown:
        raise ValueError(f"no row has the column {unknown[0]!r}; the columns are {known}")
    names = known if columns is None else list(columns)
    if not names:
        raise ValueError("a table needs at least one column")
    return names


def _cells(
    rows: Sequence[Row], names: Sequence[str], formats: Mapping[str, str]
) -> list[list[str]]:
    return [[_cell(row.get(name), formats.get(name)) for name in names] for row in rows]


def _cell(value: Any, spec: str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, Interval):
        mean, half = float(value.mean), float(value.half_width)
        if spec is None:
            spec = f".{_decimals(mean, half)}f"
        # A single value has no interval.
        return format(mean, spec) + ("" if np.isnan(half) else f" ± {format(half, spec)}")
    if isinstance(value, str | bool | np.bool):
        return str(value)
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, int | float) and spec is not None:
        return format(number, spec)
    return format(number, ".4g") if isinstance(number, float) else str(number)


def _decimals(mean: float, half: float) -> int:
    """Decimals that show two digits of the half-width, or four of the mean without one."""
    digits, size = (2, half) if half > 0 and np.isfinite(half) else (4, abs(mean))
    if not np.isfinite(size) or size == 0:
        return digits
    return int(np.clip(digits - 1 - np.floor(np.log10(size)), 0, 9))


def _numeric(rows: Sequence[Row], names: Sequence[str]) -> list[bool]:
    """Which columns hold numbers, and so are aligned on the right."""
    columns = [[row[name] for row in rows if row.get(name) is not None] for name in names]
    return [bool(column) and not any(isinstance(v, str) for v in column) for column in columns]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def _literal(cell: str) -> Any:
    """Text that rich takes as it is, square brackets included."""
    return require("rich.text", "cli").Text(cell)
