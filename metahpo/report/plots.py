"""Pictures of a comparison; the numbers come from ``metahpo.report.data``.

Figures are made without ``pyplot``, so no global state of matplotlib (the extra ``plot``) is read
or changed beyond the user's own rcParams, and files appear only when they are complete.
"""

import os
from collections.abc import Mapping
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from metahpo._extras import require
from metahpo._files import atomic_write
from metahpo.report.data import Curve, Interval

PathLike = str | os.PathLike[str]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, told apart with every kind of colour vision, without the yellow."""

MARKERS = "osD^vP*X<>hp"
DASHES = ("-", "--", ":")
GREY = "#555555"
MOST_LINES = 6
"""So many lines have their names beside their ends; more need a legend."""


def draw_curves(
    data: Mapping[str, Curve],
    path: PathLike,
    *,
    xlabel: str = "budget (complete trainings)",
    ylabel: str = "lowest validation loss",
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
) -> Path:
    """Draws curves with interval bands, such as the best loss against the budget.

    Args:
        data: one ``Curve`` a method, by its label.  Methods with a single point are drawn too.
        path: the PNG file; its folder is made where it is missing.
        xlabel: what the budget counts.
        ylabel: what is shown, with its unit.
        title: a line above.
        log_x: whether the budget's axis is logarithmic; its ticks stand at the budgets.
        log_y: whether the other axis is logarithmic.

    Returns:
        The path.

    Raises:
        ValueError: without curves.
        ImportError: if matplotlib is not installed.
    """
    _check_any(data, "curve")
    figure = new_figure(7.5, 4.5)
    axes = figure.add_subplot()
    for (label, curve), style in zip(data.items(), _styles(len(data)), strict=True):
        _draw_curve(axes, as_text(label), curve, style, crowded=len(data) > 5)
    scales(axes, np.concatenate([np.ravel(curve.x) for curve in data.values()]), log_x, log_y)
    means = np.concatenate([np.ravel(curve.mean) for curve in data.values()])
    if log_y and (means > 0).any():  # bands may reach zero, but need not show how they do
        axes.set_ylim(bottom=max(axes.get_ylim()[0], means[means > 0].min() / 5))
    _finish(axes, xlabel, ylabel, title)
    ends = {label: _last_finite(curve.mean) for label, curve in data.items()}
    if len(data) <= MOST_LINES:
        colors = [style["color"] for style in _styles(len(data))]
        label_ends(axes, ends, dict(zip(data, colors, strict=True)))
    else:
        _legend_beside(axes, ends)
    return save_figure(figure, path)


def draw_bars(
    data: Mapping[str, Interval],
    path: PathLike,
    *,
    xlabel: str = "test accuracy (mean and 95 % interval)",
    title: str = "",
    digits: int = 3,
    from_zero: bool = True,
) -> Path:
    """Draws a value a method with its interval, as horizontal bars from top to bottom.

    Args:
        data: one ``Interval`` a method, by its label.
        path: the PNG file; its folder is made where it is missing.
        xlabel: what is shown, with its unit.
        title: a line above.
        digits: decimals of the numbers beside the bars.
        from_zero: whether the bars begin at zero; otherwise points are drawn over the range of the
            data, which shows small differences without bars of misleading lengths.

    Returns:
        The path.

    Raises:
        ValueError: without methods.
        ImportError: if matplotlib is not installed.
    """
    _check_any(data, "bar")
    figure = new_figure(7.5, 1.3 + 0.36 * len(data))
    axes = figure.add_subplot()
    rows = np.arange(len(data))
    mean = np.array([float(value.mean) for value in data.values()])
    half = np.nan_to_num(np.array([float(value.half_width) for value in data.values()]))
    if from_zero:
        axes.barh(rows, mean, height=0.62, color="#8FBBD9", zorder=2)
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=3)
    axes.errorbar(
        mean,
        rows,
        xerr=half,
        fmt="none" if from_zero else "o",
        color=COLORS[0] if not from_zero else "#222222",
        ecolor=COLORS[0] if not from_zero else "#222222",
        elinewidth=1.6,
        capsize=4,
        zorder=4,
    )
    for row, value, text_at in zip(rows, mean, np.maximum(mean + half, 0), strict=True):
        axes.annotate(
            f"{value:.{digits}f}",
            (text_at if from_zero else value + half[row], row),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="#222222",
        )
    axes.set_yticks(rows, map(as_text, data), fontsize=10)
    axes.set_ylim(len(data) - 0.4, -0.6)
    axes.margins(x=0.12)
    _finish(axes, xlabel, "", title)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    return save_figure(figure, path)


def draw_training(
    trace: Mapping[str, ArrayLike],
    path: PathLike,
    *,
    xlabel: str = "step",
    title: str = "",
    log_y: bool = False,
) -> Path:
    """Draws training curves, one panel a quantity.

    Args:
        trace: by name, ``f[steps]`` or ``f[members, steps]``; several members are drawn thin, with
            their median thick.
        path: the PNG file; its folder is made where it is missing.
        xlabel: what the steps count.
        title: a line above.
        log_y: whether the quantities' axes are logarithmic.

    Returns:
        The path.

    Raises:
        ValueError: without quantities, or for one that is not one- or two-dimensional.
        ImportError: if matplotlib is not installed.
    """
    _check_any(trace, "quantity")
    figure = new_figure(7.5, 0.6 + 2.4 * len(trace))
    panels = figure.subplots(len(trace), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values), color in zip(panels, trace.items(), cycle(COLORS), strict=False):
        members = np.asarray(values, dtype=float)
        if members.ndim not in (1, 2):
            raise ValueError(f"{name} must be [steps] or [members, steps], got {members.shape}")
        members = np.atleast_2d(members)
        steps = np.arange(1, members.shape[1] + 1)
        if len(members) > 1:
            axes.plot(steps, members.T, color=color, linewidth=0.7, alpha=0.35)
        label = f"median of {len(members)}" if len(members) > 1 else None
        axes.plot(steps, np.median(members, axis=0), color=color, linewidth=2, label=label)
        if label:
            axes.legend(frameon=False, fontsize=9)
        scales(axes, steps, False, log_y)
        _finish(
            axes, xlabel if axes is panels[-1] else "", name, title if axes is panels[0] else ""
        )
    return save_figure(figure, path)


def _draw_curve(axes: Any, label: str, curve: Curve, style: dict[str, Any], crowded: bool) -> None:
    x, mean = np.ravel(curve.x), np.ravel(curve.mean)
    if len(x) == 1:  # a method that knows one budget only: a point, above all lines
        style = style | {"linestyle": "none", "markersize": 7, "zorder": 4}
    axes.plot(x, mean, label=label, **style)
    if curve.half_width is None:
        return
    half = np.nan_to_num(np.ravel(curve.half_width), nan=0.0)
    color = style["color"]
    if len(x) == 1:
        axes.errorbar(x, mean, half, fmt="none", ecolor=color, capsize=4, zorder=4)
        return
    low, high = mean - half, mean + half
    axes.fill_between(x, low, high, color=color, alpha=0.05 if crowded else 0.15, linewidth=0)
    if crowded:  # where many bands lie upon each other, their edges tell them apart
        for edge in (low, high):
            axes.plot(x, edge, color=color, alpha=0.35, linewidth=0.6)


def label_ends(
    axes: Any, ends: Mapping[str, float], colors: Mapping[str, Any], fontsize: float = 9.5
) -> None:
    """Writes each line's name beside its end, in its colour; names never lie upon each other.

    Call it when the panel's limits and scales are set.

    Args:
        axes: the panel, of a figure of ``new_figure``.
        ends: where each line ends on the vertical axis, by its name; a name whose end lies beyond
            the axis stands at the edge.
        colors: by name.
        fontsize: of the names, in points.
    """
    if not ends:
        return
    axes.figure.draw_without_rendering()  # only then the panel has its height
    apart = 1.35 * fontsize * axes.figure.dpi / 72 / axes.bbox.height  # of the axis
    forward = axes.yaxis.get_transform().transform
    low, high = map(forward, axes.get_ylim())
    at = {label: (forward(end) - low) / (high - low) for label, end in ends.items()}
    names = sorted(ends, key=lambda label: -at[label] if at[label] == at[label] else np.inf)
    heights = [
        float(np.clip(np.nan_to_num(at[label], posinf=1, neginf=0), 0, 1)) for label in names
    ]
    for i in range(1, len(names)):  # down from the highest one, then up from the floor
        heights[i] = min(heights[i], heights[i - 1] - apart)
    heights[-1] = max(heights[-1], 0.0)
    for i in range(len(names) - 2, -1, -1):
        heights[i] = max(heights[i], heights[i + 1] + apart)
    for label, height in zip(names, heights, strict=True):
        axes.annotate(
            as_text(label),
            (1, height),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=fontsize,
            color=colors[label],
        )


def _legend_beside(axes: Any, ends: Mapping[str, float]) -> None:
    """A legend in the order of the lines' ends, in which a reader looks for them."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    order = [as_text(label) for label in sorted(ends, key=lambda label: -ends[label])]
    axes.legend(
        [handles[label] for label in order],
        order,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize=9,
        handlelength=3,
    )


def _styles(count: int) -> list[dict[str, Any]]:
    """Colours first, then dashes: each method has a colour, a dash and a marker of its own."""
    return [
        {
            "color": COLORS[i % len(COLORS)],
            "linestyle": DASHES[i // len(COLORS) % len(DASHES)],
            "marker": MARKERS[i % len(MARKERS)],
            "markersize": 5,
            "linewidth": 1.7,
        }
        for i in range(count)
    ]


def scales(axes: Any, x: np.ndarray, log_x: bool, log_y: bool) -> None:
    """Logarithmic axes with plain numbers; few budgets ``x`` are the ticks."""
    ticker = require("matplotlib.ticker", "plot")
    if log_x:
        axes.set_xscale("log")
        budgets = np.unique(x)
        if len(budgets) <= 10:
            axes.xaxis.set_major_locator(ticker.FixedLocator(budgets))
            axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    if log_y:
        axes.set_yscale("log", nonpositive="clip")
        axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(ticker.FuncFormatter(lambda y, _: _minor(axes, y)))


def _minor(axes: Any, y: float) -> str:
    """Labels between the powers of ten, where there are few of those."""
    low, high = axes.get_ylim()
    first = y / 10 ** np.floor(np.log10(y) + 1e-9)
    return f"{y:g}" if high < 200 * low and round(first) in (2, 3, 5) else ""


def _finish(axes: Any, xlabel: str, ylabel: str, title: str) -> None:
    axes.set_xlabel(as_text(xlabel), fontsize=10)
    axes.set_ylabel(as_text(ylabel), fontsize=10)
    axes.set_title(as_text(title), fontsize=11, loc="left")
    axes.tick_params(labelsize=9)
    axes.grid(True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _last_finite(values: np.ndarray) -> float:
    finite = np.ravel(values)[np.isfinite(np.ravel(values))]
    return float(finite[-1]) if len(finite) else np.inf


def _check_any(data: Mapping[str, Any], what: str) -> None:
    if not data:
        raise ValueError(f"a picture needs at least one {what}, got none")


def as_text(label: str) -> str:
    """A label that matplotlib shows as it is, dollars included, where it would read a formula."""
    return label.replace("$", r"\$")


def new_figure(width: float, height: float) -> Any:
    """An empty figure, sizes in inches, of which ``pyplot`` knows nothing."""
    figure = require("matplotlib.figure", "plot").Figure((width, height), layout="constrained")
    require("matplotlib.backends.backend_agg", "plot").FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: PathLike, dpi: float = 150) -> Path:
    """Writes a figure as PNG, whole or not at all."""
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=dpi, facecolor="white")
    with atomic_write(path) as file:
        file.write(picture.getvalue())
    return Path(path)
