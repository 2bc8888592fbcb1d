"""Pictures: readable, complete, and made without touching matplotlib's global state."""

import subprocess
import sys

import numpy as np
import pytest

from metahpo import report
from metahpo.report import plots

pytestmark = pytest.mark.versions

pytest.importorskip("matplotlib")

LABELS = [f"method {i} with a name" for i in range(12)]


def curves(count=12):
    values = np.random.default_rng(0).lognormal(sigma=0.3, size=(count, 5, 6))
    budgets = 2 ** np.arange(6)
    made = {
        label: report.curve(np.minimum.accumulate(v + 0.1 * i, 1), budgets)
        for i, (label, v) in enumerate(zip(LABELS, values, strict=False))
    }
    return made | {"one training": report.curve(values[0, :, :1], [1])}


def bars():
    values = np.random.default_rng(0).normal(0.8, 0.05, size=(12, 20))
    return {label: report.interval(v) for label, v in zip(LABELS, values, strict=True)}


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, drawn, so that what they hold can be measured."""
    found = []
    save = plots.save_figure

    def keep(figure, path):
        saved = save(figure, path)
        figure.draw_without_rendering()  # places everything at the figure's own resolution
        found.append(figure)
        return saved

    monkeypatch.setattr(plots, "save_figure", keep)
    return found


def boxes(texts):
    return [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]


def overlaps(texts):
    found = boxes(texts)
    return [(a, b) for i, a in enumerate(found) for b in found[:i] if a.overlaps(b)]


def pixels(path):
    image = pytest.importorskip("matplotlib.image").imread(path)
    assert image.shape[0] > 300 and image.shape[1] > 600
    return image


@pytest.mark.parametrize("log_y", [False, True])
def test_curves_show_every_method_and_nothing_overlaps(tmp_path, figures, log_y):
    path = report.draw_curves(curves(), tmp_path / "new" / "c.png", log_x=True, log_y=log_y)
    pixels(path)
    (axes,) = figures[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    for label, curve in curves().items():
        np.testing.assert_array_equal(lines[label].get_xdata(), curve.x)
        np.testing.assert_array_equal(lines[label].get_ydata(), curve.mean)
    legend = axes.get_legend().get_texts()
    assert {text.get_text() for text in legend} == set(curves())
    assert overlaps(legend) == [] and overlaps(axes.get_xticklabels()) == []
    assert axes.get_legend().get_window_extent().x0 > axes.get_window_extent().x1
    assert axes.get_legend().get_window_extent().x1 <= figures[0].bbox.x1
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "2", "4", "8", "16", "32"]


def ending(ends):
    return {n: report.Curve(np.arange(2), np.array([0, end])) for n, end in ends.items()}


def test_the_legend_of_many_has_the_order_of_the_ends(tmp_path, figures):
    ends = {"low": 1.0, "high": 7.0, "a": 2.0, "c": 4.0, "b": 3.0, "e": 6.0, "d": 5.0}
    report.draw_curves(ending(ends), tmp_path / "c.png")
    shown = [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()]
    assert shown == ["high", "e", "d", "c", "b", "a", "low"]


@pytest.mark.parametrize("ends", [(1.0, 3.0, 2.0), (1.0, 1.0, 1.001), (3.0, 2.999, 0.0)])
def test_few_have_their_names_beside_their_ends_and_apart(tmp_path, figures, ends):
    names = dict(zip(("low", "high", "middle"), ends, strict=True))
    report.draw_curves(ending(names), tmp_path / "c.png")
    axes = figures[0].axes[0]
    assert axes.get_legend() is None
    heights = {text.get_text(): text.xy[1] for text in axes.texts}
    assert set(heights) == set(names) and overlaps(axes.texts) == []
    in_order = sorted(names, key=lambda name: names[name])
    assert sorted(names[name] for name in sorted(heights, key=heights.get)) == sorted(ends)
    assert heights[in_order[-1]] >= heights[in_order[0]]
    low, high = axes.get_ylim()
    if min(np.diff(sorted(ends))) > 0.5:  # with room they stand where the lines end
        for name, height in heights.items():
            assert height == pytest.approx((names[name] - low) / (high - low))


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("height", [1.5, 4.0])
def test_names_at_the_ends_of_six_lines_stay_apart_in_a_panel_of_any_height(height, scale):
    figure = plots.new_figure(8, height)
    axes = figure.subplots(1, 2)[1]
    ends = dict(zip("abcdef", [1.0, 1.01, 1.02, 5.0, np.inf, 0.001], strict=True))
    axes.set(yscale=scale, ylim=(0.1, 10), xlabel="step")
    plots.label_ends(axes, ends, {name: f"C{i}" for i, name in enumerate(ends)})
    figure.draw_without_rendering()
    names = sorted(axes.texts, key=lambda text: text.get_window_extent().y0)
    assert overlaps(names) == []
    assert [text.get_text() for text in names] == sorted(ends, key=lambda name: ends[name])
    assert all(box.x0 >= axes.bbox.x1 and box.x1 <= figure.bbox.x1 for box in boxes(names))
    assert names[0].get_color() == "C5"


def test_every_method_has_a_look_of_its_own():
    looks = {(s["color"], s["linestyle"], s["marker"]) for s in plots._styles(12)}
    assert len(looks) == 12
    assert len({(s["color"], s["linestyle"]) for s in plots._styles(12)}) == 12


def test_a_band_that_reaches_zero_does_not_stretch_a_logarithmic_axis(tmp_path, figures):
    data = {"a": report.Curve(np.arange(1, 3), np.array([1.0, 0.5]), np.array([0.1, 0.5 - 1e-12]))}
    report.draw_curves(data, tmp_path / "c.png", log_y=True)
    assert figures[0].axes[0].get_ylim()[0] > 0.05


@pytest.mark.parametrize("from_zero", [True, False])
def test_bars_show_values_and_intervals_and_nothing_overlaps(tmp_path, figures, from_zero):
    data = bars() | {"single run": report.interval([0.7])}
    pixels(report.draw_bars(data, tmp_path / "b.png", from_zero=from_zero))
    (axes,) = figures[0].axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(data)
    assert overlaps([*axes.get_yticklabels(), *axes.texts]) == []
    assert [text.get_text() for text in axes.texts] == [f"{v.mean:.3f}" for v in data.values()]
    assert all(box.x1 <= axes.get_window_extent().x1 for box in boxes(axes.texts))
    (whiskers,) = [c for c in axes.collections if hasattr(c, "get_segments")]
    for segment, value in zip(whiskers.get_segments(), data.values(), strict=True):
        half = np.nan_to_num(value.half_width)
        np.testing.assert_allclose(segment[:, 0], [value.mean - half, value.mean + half])
    assert (axes.get_xlim()[0] == 0) == from_zero


def test_training_curves_have_a_panel_a_quantity(tmp_path, figures):
    members = np.random.default_rng(0).random((5, 8))
    trace = {"loss": members, "learning rate": np.linspace(1, 0, 8)}
    pixels(report.draw_training(trace, tmp_path / "t.png", title="digits"))
    loss, rate = figures[0].axes
    assert (loss.get_ylabel(), rate.get_ylabel()) == ("loss", "learning rate")
    assert len(loss.lines) == 6 and len(rate.lines) == 1
    np.testing.assert_array_equal(loss.lines[-1].get_ydata(), np.median(members, axis=0))
    np.testing.assert_array_equal(rate.lines[0].get_xdata(), np.arange(1, 9))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: report.draw_curves({}, path), "at least one curve, got none"),
        (lambda path: report.draw_bars({}, path), "at least one bar, got none"),
        (lambda path: report.draw_training({}, path), "at least one quantity, got none"),
        (
            lambda path: report.draw_training({"loss": np.zeros((1, 2, 3))}, path),
            r"loss must be \[steps\] or \[members, steps\], got \(1, 2, 3\)",
        ),
    ],
)
def test_wrong_data_is_told_and_leaves_no_file(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


STATE = """
import sys
import matplotlib

def settings():  # asking for the backend would import pyplot
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}

before = settings()
from metahpo import report
report.draw_bars({"a": report.interval([1.0, 2.0])}, sys.argv[1])
assert settings() == before
assert "matplotlib.pyplot" not in sys.modules
"""


def test_global_state_of_matplotlib_stays(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STATE, str(tmp_path / "a.png")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
