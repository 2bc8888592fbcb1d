"""Pictures of several panels in the style of the house."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from metahpo._extras import require
from metahpo.report import Interval
from metahpo.report.plots import PathLike, as_text, new_figure, save_figure

DPI = 130
STYLE = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.title_fontsize": 8,
}
_LETTERS = 11.5  # of a title, an inch
_FAR = 1e30  # above every panel
_PLAIN = {"facecolor": "white", "linewidth": 0, "pad": 0.2}  # behind a number
_NO_COLORS: Mapping[str, Any] = MappingProxyType({})


@contextmanager
def panels(
    path: PathLike,
    rows: int = 1,
    columns: int = 1,
    *,
    size: tuple[float, float],
    title: str = "",
    legends: bool = True,
    **options: Any,
) -> Iterator[Any]:
    """Gives the panels of a picture to draw in, and writes it at the end.

    They have no frame at the top and on the right.  Legends are small and without a frame, and a
    panel whose content has labels gets one by itself.  ``pyplot`` knows nothing of the figure, so
    there is nothing to close, and the user's style is the same afterwards.  After an error within
    nothing is written.

    Args:
        path: the PNG file; its folder is made where it is missing.
        rows: of panels.
        columns: of panels.
        size: width and height in inches; at 8 inches the text is read on a page of 700 pixels.
        title: what the picture shows, in a sentence; it is broken into lines that fit.
        legends: whether panels get legends by themselves.
        options: further ones of matplotlib's ``Figure.subplots``, such as ``sharex``.

    Yields:
        matplotlib's ``Axes``: a single one, ``[n]`` for one row or column, ``[rows, columns]``
        for more.

    Raises:
        ImportError: if matplotlib is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.png"
        >>> with panels(path, 1, 2, size=(6, 3)) as (left, right):
        ...     _ = left.plot([3.0, 1.0], label="loss")
        >>> path.exists()
        True
    """
    with require("matplotlib", "plot").rc_context(STYLE):
        figure = new_figure(*size)
        if title:
            whole = as_text(title).replace(" %", "\N{NO-BREAK SPACE}%")
            lines = textwrap.fill(whole, int(_LETTERS * size[0]))
            figure.suptitle(lines, x=0.01, ha="left", fontsize=11)
        yield figure.subplots(rows, columns, **options)
        for axes in figure.axes if legends else ():
            if axes.get_legend() is None and axes.get_legend_handles_labels()[0]:
                axes.legend()
        save_figure(figure, path, DPI)


def column(rows: Iterable[Mapping[str, Any]], name: str, by: str) -> dict[str, Interval | None]:
    """A column of the table in ``results.json``: its intervals by what another column says.

    Args:
        rows: as ``report.load_json`` reads them.
        name: of the column; where a row has no interval there, it is ``None``.
        by: the column of the rows' names.

    Example:
        >>> rows = [{"method": "grid", "loss": {"mean": 0.5, "half_width": 0.1, "n": 3}}]
        >>> column(rows, "loss", "method")["grid"].mean
        0.5
    """
    cells = {row[by]: row.get(name) for row in rows}
    return {label: None if cell is None else Interval(**cell) for label, cell in cells.items()}


def beside(difference: float, digits: str, unit: str = "") -> str:
    """A difference in words, for titles that stay true whatever a run finds.

    Args:
        difference: of something from something else.
        digits: how its size is written, such as ``".1f"``.
        unit: of it.

    Example:
        >>> beside(-11.25, ".1f", " %"), beside(0.5, ".1f")
        ('11.2 % below', '0.5 above')
    """
    return f"{abs(difference):{digits}}{unit} {'below' if difference < 0 else 'above'}"


def draw_intervals(
    axes: Any,
    data: Mapping[str, Interval | None],
    *,
    colors: Mapping[str, Any] = _NO_COLORS,
    shift: float = 0.0,
    label: str | None = None,
    digits: str = "",
    **style: Any,
) -> None:
    """Draws means with their intervals into a panel, one line a name from top to bottom.

    Args:
        axes: the panel.
        data: by name; ``None`` leaves a line empty.
        colors: by name, where they differ; grey without.
        shift: moves the dots down, in lines, where several stand in one.
        label: of the dots, in the legend.
        digits: how the mean is written above its dot, such as ``".2f"``; not at all by default.
        style: as for matplotlib's ``Axes.errorbar``, such as ``fmt``.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "means.png"
        >>> with panels(path, size=(4, 2)) as axes:
        ...     draw_intervals(axes, {"grid": Interval(np.array(0.3), np.array(0.1), 5)})
    """
    style = {"fmt": "o", "capsize": 3, "color": "0.35"} | style
    for line, (name, value) in enumerate(data.items()):
        if value is not None:
            color = {"color": colors[name]} if name in colors else {}
            dots = axes.errorbar(value[0], line + shift, xerr=value[1], **style | color)
            if digits:
                above = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
                shown = {"fontsize": 9, "color": dots[0].get_color(), "bbox": _PLAIN}
                axes.annotate(f"{value[0]:{digits}}", (value[0], line + shift), **above, **shown)
    if label is not None:
        axes.errorbar([], [], xerr=[], label=label, **style)
    axes.set_yticks(range(len(data)), map(as_text, data))
    axes.set_ylim(len(data) - 0.5, -0.5)


def label_exit(
    axes: Any, x: ArrayLike, y: ArrayLike, name: str, color: Any, fontsize: float = 9.0
) -> None:
    """Draws a line that leaves a panel at the top, with its name upright beside where it does.

    Call it when the panel's limits and scales are set.

    Args:
        axes: the panel.
        x: ``f[N]``.
        y: ``f[N]``; what is not finite lies far above the panel.
        name: of the line.
        color: of the line and its name.
        fontsize: of the name, in points.

    Raises:
        ValueError: for a line that stays below the top.

    Example:
        >>> import pathlib, tempfile
        >>> with panels(pathlib.Path(tempfile.mkdtemp()) / "exit.png", size=(4, 2)) as axes:
        ...     _ = axes.set(xlim=(0, 2), ylim=(0, 5))
        ...     label_exit(axes, [0, 1, 2], [1, 3, np.inf], "diverges", "C0")
    """
    high = axes.get_ylim()[1]
    heights = np.nan_to_num(np.asarray(y, dtype=float), nan=_FAR, posinf=_FAR)
    if not (heights > high).any():
        raise ValueError(f"the line {name!r} must leave the panel above {high}, got {heights}")
    axes.plot(x, heights, color=color, linewidth=1.8)
    after = int(np.argmax(heights > high))
    ends = np.column_stack([x, heights])[[max(after - 1, 0), after]]
    (left, low), (right, top) = axes.transData.transform(ends)
    edge = axes.transData.transform([(0, high)])[0, 1]
    at = left + (right - left) * (edge - low) / (top - low) if top > low else right
    axes.annotate(
        as_text(name),
        (axes.transAxes.inverted().transform([(at, edge)])[0, 0], 1),
        xycoords="axes fraction",
        xytext=(3, 0),
        textcoords="offset points",
        rotation=90,
        va="top",
        fontsize=fontsize,
        color=color,
    )


def draw_runs(axes: Any, values: ArrayLike, x: ArrayLike | None = None, **style: Any) -> None:
    """Draws several runs into a panel: each of them thin, and their mean thick.

    Args:
        axes: the panel.
        values: ``f[n, N]``: n runs at the same N places.
        x: ``f[N]``, the places; 1 ... N without them.
        style: of the mean as for matplotlib's ``Axes.plot``, such as ``color`` and ``label``.

    Example:
        >>> import pathlib, tempfile
        >>> with panels(pathlib.Path(tempfile.mkdtemp()) / "runs.png", size=(4, 2)) as axes:
        ...     draw_runs(axes, [[3.0, 1.0], [5.0, 2.0]], color="C0", label="mean of two")
    """
    runs = np.asarray(values)
    x = np.arange(1, runs.shape[1] + 1) if x is None else np.asarray(x)
    axes.plot(x, runs.T, **style | {"alpha": 0.3, "linewidth": 0.8, "label": None})
    axes.plot(x, runs.mean(axis=0), **style)
