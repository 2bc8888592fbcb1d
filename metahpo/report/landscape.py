"""Pictures of a run's candidates: by coordinate, all coordinates at once, and their importance."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metahpo import space as spaces
from metahpo._extras import require
from metahpo.report.importance import importance
from metahpo.report.plots import (
    COLORS,
    GREY,
    PathLike,
    as_text,
    draw_bars,
    new_figure,
    save_figure,
    scales,
)

_COLUMNS, _TICKS = 3, 5


def draw_slices(space: spaces.Space, result: Any, path: PathLike, *, log_y: bool = False) -> Path:
    """Draws the losses of all candidates against each hyperparameter, one panel each.

    Later rounds are darker, the best candidate is ringed, and those without a finite loss are
    crosses on the upper edge; the title says how low the best loss is and how many crosses.

    Args:
        space: that was searched.
        result: a ``SearchResult`` or ``MinimizeResult`` of one run, or its ``history``.
        path: the PNG file; its folder is made where it is missing.
        log_y: whether the losses' axis is logarithmic.

    Returns:
        The path.

    Raises:
        ValueError: for several runs side by side, another space, or if nothing was evaluated.
        ImportError: if matplotlib is not installed.

    Example:
        >>> import jax, metahpo as mh, pathlib, tempfile
        >>> space = {"x": mh.Float(-1.0, 1.0), "kind": mh.Choice(("a", "b"))}
        >>> strategy = mh.strategies.random(space, population=16)
        >>> result = mh.minimize(lambda h: h["x"] ** 2, space, strategy, rounds=2, progress=False)
        >>> draw_slices(space, result, pathlib.Path(tempfile.mkdtemp()) / "slices.png").name
        'slices.png'
    """
    unit, loss, rounds = _candidates(space, result)
    dims = _dimensions(space)
    columns = min(_COLUMNS, len(dims))
    rows = -(-len(dims) // columns)
    figure = new_figure(0.6 + 2.6 * columns, 0.8 + 2.3 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    finite = np.isfinite(loss)
    best = int(np.argmin(np.where(finite, loss, np.inf)))
    figure.suptitle(_slices_title(loss, finite), fontsize=10, x=0.02, ha="left")
    for axes, (name, dim), at in zip(panels.flat, dims.items(), unit.T, strict=False):
        edge = axes.get_xaxis_transform()
        shown = axes.scatter(
            at[finite], loss[finite], c=rounds[finite], cmap="viridis_r", s=14, linewidths=0
        )
        axes.scatter(at[~finite], np.ones((~finite).sum()), marker="x", s=14, c=COLORS[1],
                     transform=edge, clip_on=False)  # fmt: skip
        if finite.any():
            ring = {"facecolors": "none", "edgecolors": COLORS[1], "s": 70, "linewidths": 1.6}
            axes.scatter(at[best], loss[best], **ring)
        ticks, labels = _ticks(dim)
        axes.set_xticks(ticks, labels, fontsize=8)
        _keep_within(axes.get_xticklabels(), ticks)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xlabel(as_text(name), fontsize=9)
        axes.tick_params(axis="y", which="both", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
    scales(panels[0, 0], rounds, False, log_y)
    for axes in panels.flat[len(dims) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("loss", fontsize=9)
    if rounds.max() > 0:
        bar = figure.colorbar(shown, ax=panels, shrink=0.8, pad=0.01)
        bar.set_label("round", fontsize=9)
        bar.ax.tick_params(labelsize=8)
    return save_figure(figure, path)


def _slices_title(loss: np.ndarray, finite: np.ndarray) -> str:
    """What the best of the losses is; what the marks are."""
    found = f"lowest loss {loss[finite].min():.4g} (ringed)" if finite.any() else "no finite loss"
    crosses = f"; {(~finite).sum()} not finite (crosses)" if not finite.all() else ""
    return f"{found} of {len(loss)} candidates{crosses}"


def draw_parallel(space: spaces.Space, result: Any, path: PathLike, *, best: int = 10) -> Path:
    """Draws each candidate as a line through its values, the best ones in colour.

    A line has gaps where a candidate has no values: in branches that it did not choose.

    Args:
        space: that was searched.
        result: a ``SearchResult`` or ``MinimizeResult`` of one run, or its ``history``.
        path: the PNG file; its folder is made where it is missing.
        best: how many candidates are in colour; the darker, the lower the loss.

    Returns:
        The path.

    Raises:
        ValueError: for several runs side by side, another space, or if nothing was evaluated.
        ImportError: if matplotlib is not installed.
    """
    unit, loss, _ = _candidates(space, result)
    dims = _dimensions(space)
    order = np.argsort(np.where(np.isfinite(loss), loss, np.inf), kind="stable")[::-1]
    unit = np.column_stack(
        [_snapped(dim, at) for dim, at in zip(dims.values(), unit.T, strict=True)]
    )
    colors = require("matplotlib", "plot").colormaps["viridis"]
    figure = new_figure(max(5.0, 1.2 + 1.5 * len(dims)), 4.0)
    axes = figure.add_subplot()
    columns = np.arange(len(dims))
    marker = "o" if np.isnan(unit).any() else None  # a line alone does not show a single value
    for place, i in enumerate(order):
        from_best = len(order) - 1 - place
        if from_best < best and np.isfinite(loss[i]):
            style = {"color": colors(0.85 * from_best / best), "linewidth": 1.6, "zorder": 3}
        else:
            style = {"color": "#BBBBBB", "linewidth": 0.6, "alpha": 0.6, "zorder": 1}
        axes.plot(columns, unit[i], marker=marker, markersize=4, **style)
    for column, dim in zip(columns, dims.values(), strict=True):
        axes.axvline(column, color=GREY, linewidth=0.8, zorder=2)
        for at, label in zip(*_ticks(dim), strict=True):
            axes.annotate(
                label, (column, at), xytext=(4, 0), textcoords="offset points", va="center",
                fontsize=8, zorder=4,
                bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.8},
            )  # fmt: skip
    axes.set_xticks(columns, [as_text(name) for name in dims], fontsize=9)
    axes.set_xlim(-0.1, len(dims) - 0.6)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0)
    axes.spines[:].set_visible(False)
    shown = min(best, int(np.isfinite(loss).sum()))
    lowest = f", lowest loss {loss[order[-1]]:.4g}" if shown else ""
    title = f"best {shown} of {len(loss)} candidates in colour{lowest}"
    axes.set_title(title, fontsize=10, loc="left")
    return save_figure(figure, path)


def draw_importance(space: spaces.Space, result: Any, path: PathLike, **options: Any) -> Path:
    """Draws ``importance`` as bars with their ranges.

    Args:
        space: that was searched.
        result: as for ``importance``.
        path: the PNG file; its folder is made where it is missing.
        options: as for ``importance``.

    Returns:
        The path.

    Raises:
        ValueError: as ``importance``.
        ImportError: if matplotlib or scikit-learn is not installed.
    """
    found = importance(space, result, **options)
    return draw_bars(found, path, xlabel="share of the losses' variance (of their ranks)", digits=2)


def _candidates(space: spaces.Space, result: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points ``[n, D]``, losses ``[n]`` and rounds ``[n]`` of what was evaluated.

    Coordinates that are not active are NaN, so that nothing is drawn there.
    """
    history = getattr(result, "history", result)
    unit, loss = np.asarray(history.unit, dtype=float), np.asarray(history.loss, dtype=float)
    if loss.ndim != 2:
        raise ValueError(
            "a picture is of one run: index the results of several runs first, got losses of shape "
            f"{loss.shape} where [rounds, population] was expected"
        )
    if unit.shape[-1] != spaces.size(space):
        raise ValueError(
            f"the run searched {unit.shape[-1]} coordinates, but the space has {spaces.size(space)}"
        )
    rounds, members = np.nonzero(np.asarray(history.budget) > 0)
    if not len(rounds):
        raise ValueError("a picture needs candidates, nothing was evaluated")
    unit = unit[rounds, members]
    active = np.asarray(spaces.active(space, unit))
    return np.where(active, unit, np.nan), loss[rounds, members], rounds


def _dimensions(space: spaces.Space) -> dict[str, spaces.Dimension]:
    """The coordinates, an ordered choice by its values and not by their numbers."""
    dims = spaces.dimensions(space)
    for name, leaf in zip(spaces.names(space), jax.tree.leaves(space), strict=True):
        if isinstance(leaf, spaces.Choice):
            alone = dataclasses.replace(leaf, shape=())
            entries = ("".join(f"[{i}]" for i in index) for index in np.ndindex(leaf.shape))
            dims |= {name + entry: alone for entry in entries}
    return dims


def _snapped(dim: spaces.Dimension, at: np.ndarray) -> np.ndarray:
    """Coordinates of integers and choices in the middle of their cells."""
    if isinstance(dim, spaces.Float):
        return at
    known = ~np.isnan(at)
    return np.where(known, np.asarray(dim.encode(dim.decode(np.where(known, at, 0.0)))), np.nan)


def _keep_within(labels: Sequence[Any], ticks: Sequence[float]) -> None:
    """Labels at a panel's very edges begin and end there, clear of the next panel's."""
    for label, tick in zip(labels, ticks, strict=True):
        label.set_horizontalalignment({0.0: "left", 1.0: "right"}.get(tick, "center"))


def _ticks(dim: spaces.Dimension) -> tuple[Sequence[float], list[str]]:
    """Where values stand on a coordinate, and what they are called."""
    if isinstance(dim, spaces.Choice):
        values = list(range(len(dim.values)))
        shown = values if len(values) <= _TICKS else values[:: -(-len(values) // _TICKS)]
        labels = [as_text(str(dim.values[i])) for i in shown]
        return [float(dim.encode(i)) for i in shown], labels
    if isinstance(dim, spaces.Int) and dim.high - dim.low < _TICKS:
        whole = list(range(dim.low, dim.high + 1))
        return [float(dim.encode(i)) for i in whole], [str(i) for i in whole]
    at = np.linspace(0.0, 1.0, _TICKS - 2 if isinstance(dim, spaces.Int) else _TICKS - 1)
    return list(at), [f"{float(dim.decode(u)):.3g}" for u in at]
