"""The pictures of ``experiments.bbob``."""

import math

import numpy as np

import metahpo as mh
from metahpo.report import RunLengths
from metahpo.report.plots import COLORS, label_ends
from metahpo.study import panels

GROUPS = {
    "separable": range(1, 6),
    "moderate condition": range(6, 10),
    "high condition": range(10, 15),
    "multi-modal": range(15, 20),
    "weak structure": range(20, 25),
}
MOST_LINES = 6


def style_of(names) -> dict[str, dict]:
    """A colour for each strategy, the first on top; grey dots for random search."""
    return {
        name: {"color": "0.5", "linestyle": ":", "zorder": 2}
        if name == "random"
        else {"color": COLORS[i % len(COLORS)], "linestyle": "-", "zorder": 3 - i / 100}
        for i, name in enumerate(names)
    }


def stairs(axes, hits, end: float, **style) -> None:
    """A distribution of run lengths from no success to the end of the budget."""
    x, share = mh.report.distribution(hits)
    share = np.concatenate([[0.0], share])
    axes.step(np.concatenate([[1], x, [end]]), [*share, share[-1]], where="post", **style)


def grid(axes, **options) -> None:
    axes.grid(color="0.91", linewidth=0.6, **options)
    axes.set_axisbelow(True)


def draw_run_lengths(
    runs: dict[str, dict[int, RunLengths]], dimension: int, budget: float, path
) -> None:
    """Distributions over runs and targets, one panel a group of functions, one for all.

    Runs by strategy and number of the function; the axis ends at ``budget`` evaluations per
    dimension.  Of many strategies those are drawn that reach most in the end.
    """
    numbers = list(next(iter(runs.values())))
    groups = {name: [f for f in part if f in numbers] for name, part in GROUPS.items()}
    groups |= {"all functions": numbers}

    def hits(name, part):
        return np.stack([runs[name][number].hits for number in part]) / dimension

    def reached(name, part):
        return float((hits(name, part) <= budget).mean())

    best = sorted(runs, key=lambda name: -reached(name, numbers))[:MOST_LINES]
    title = (
        f"{best[0]} reaches {reached(best[0], numbers):.0%} of the targets with {budget:,.0f} "
        f"evaluations a dimension, {best[-1]} {reached(best[-1], numbers):.0%}"
    )
    shown = f"; the best {len(best)} of {len(runs)} strategies" if len(best) < len(runs) else ""
    styles = style_of([name for name in runs if name in best])
    size, shape = (9.5, 8), {"sharex": True, "sharey": True}
    with panels(path, 3, 2, size=size, legends=False, title=title, **shape) as all_axes:
        for axes, (group, part) in zip(all_axes.flat, groups.items(), strict=True):
            for name, style in styles.items():
                if part:
                    stairs(axes, hits(name, part), budget, linewidth=1.6, **style)
            span = GROUPS.get(group)
            members = f" (f{span[0]} to f{span[-1]})" if span else ""
            axes.set_title(group + members, fontsize=10, loc="left")
            axes.set(xscale="log", xlim=(1, budget), ylim=(0, 1.01))
            grid(axes)
        for axes, part in zip(all_axes.flat, groups.values(), strict=True):
            if part:
                ends = {name: reached(name, part) for name in styles}
                label_ends(axes, ends, {name: style["color"] for name, style in styles.items()})
        axes.figure.supxlabel(f"evaluations / dimension, {dimension}-D{shown}", fontsize=10)
        axes.figure.supylabel("share of runs and targets reached", fontsize=10)


def draw_dimensions(name: str, ours, published, path) -> None:
    """Expected running times as ratios to the published ones, one panel a dimension.

    ``ours`` holds, by dimension and number of the function, a running time and its interval's
    ends, ``published`` running times.
    """
    ratios = {
        d: {f: time[0] / published[d][f] for f, time in times.items() if math.isfinite(time[0])}
        for d, times in ours.items()
    }
    middle = np.median([ratio for each in ratios.values() for ratio in each.values()])
    title = (
        f"{name} takes {middle:.2f} times as many evaluations to 1e-8 as published in 2009, in the "
        "median over functions and dimensions"
    )
    low, high = 0.1, 10.0
    shape = {"sharex": True, "sharey": True, "squeeze": False}
    with panels(path, -(-len(ours) // 2), 2, size=(8, 5.4), title=title, **shape) as all_axes:
        for axes, (d, times) in zip(all_axes.flat, ours.items(), strict=False):
            for f, (_, *ends, _) in times.items():
                if f in ratios[d]:
                    ends = np.clip(np.array(ends) / published[d][f], low, high)
                    axes.plot([int(f)] * 2, ends, color=COLORS[0], linewidth=1.4)
                    axes.plot(int(f), ratios[d][f], "o", color=COLORS[0], markersize=4)
                else:
                    axes.plot(int(f), 0.9 * high, "x", color=COLORS[1], markersize=5)
            axes.axhline(1, color="0.3", linewidth=0.8)
            axes.set_title(f"{d} dimensions", fontsize=10, loc="left")
            grid(axes, axis="y")
        axes.set(yscale="log", ylim=(low, high), xlim=(0.3, 24.7))
        axes.set_xticks([1, 5, 10, 15, 20, 24])
        axes.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
        axes.minorticks_off()
        axes.figure.supxlabel("function; crosses: not solved within the budget", fontsize=10)
        axes.figure.supylabel("running time / published, 95 % intervals", fontsize=10)
