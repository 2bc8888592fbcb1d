"""Pictures of several panels in the style of the house."""

from collections.abc import Iterator, Mapping
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
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.title_fontsize": 8,
}
_NO_COLORS: Mapping[str, Any] = MappingProxyType({})


@contextmanager
def panels(
    path: PathLike,
    rows: int = 1,
    columns: int = 1,
    *,
    size: tuple[float, float],
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
        size: width and height in inches.
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
        yield figure.subplots(rows, columns, **options)
        for axes in figure.axes if legends else ():
            if axes.get_legend() is None and axes.get_legend_handles_labels()[0]:
                axes.legend()
        save_figure(figure, path, DPI)


def draw_intervals(
    axes: Any,
    data: Mapping[str, Interval | None],
    *,
    colors: Mapping[str, Any] = _NO_COLORS,
    shift: float = 0.0,
    label: str | None = None,
    **style: Any,
) -> None:
    """Draws means with their intervals into a panel, one line a name from top to bottom.

    Args:
        axes: the panel.
        data: by name; ``None`` leaves a line empty.
        colors: by name, where they differ; grey without.
        shift: moves the dots down, in lines, where several stand in one.
        label: of the dots, in the legend.
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
            axes.errorbar(value[0], line + shift, xerr=value[1], **style | color)
    if label is not None:
        axes.errorbar([], [], xerr=[], label=label, **style)
    axes.set_yticks(range(len(data)), map(as_text, data))
    axes.set_ylim(len(data) - 0.5, -0.5)


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
