"""Pictures of several panels: the style of the house, intervals and runs at their places."""

import sys

import numpy as np
import pytest

from metahpo.report import Interval
from metahpo.study import beside, column, draw_intervals, draw_runs, label_exit, panels

matplotlib = pytest.importorskip("matplotlib")


def interval(mean, half_width):
    return Interval(np.array(mean), np.array(half_width), 5)


def test_a_picture_is_written_and_the_users_style_stays(tmp_path):
    before = dict(matplotlib.rcParams)
    path = tmp_path / "new" / "picture.png"
    with panels(path, 2, 3, size=(4, 3), sharex=True) as axes:
        assert axes.shape == (2, 3)
        for name in ("top", "right"):
            assert not axes[0, 0].spines[name].get_visible()
        axes[0, 0].plot([1, 2], label="loss")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before
    assert axes[0, 0].get_legend() is not None and axes[1, 1].get_legend() is None
    assert not axes[0, 0].get_legend().get_frame_on()


def test_own_legends_stay_and_none_come_where_none_are_wanted(tmp_path):
    with panels(tmp_path / "a.png", size=(4, 3)) as axes:
        axes.plot([1, 2], label="loss")
        axes.legend(title="mine")
    assert axes.get_legend().get_title().get_text() == "mine"
    with panels(tmp_path / "b.png", size=(4, 3), legends=False) as axes:
        axes.plot([1, 2], label="loss")
    assert axes.get_legend() is None


def test_after_an_error_nothing_is_written(tmp_path):
    with pytest.raises(KeyError), panels(tmp_path / "a.png", size=(4, 3)):
        raise KeyError("mine")
    assert list(tmp_path.iterdir()) == []


def test_intervals_stand_in_lines_from_top_to_bottom(tmp_path):
    data = {"grid": interval(0.3, 0.1), "none": None, "ours": interval(0.2, 0.05)}
    with panels(tmp_path / "a.png", size=(4, 3)) as axes:
        draw_intervals(axes, data, colors={"ours": "C0"}, shift=0.2, label="test")
    assert [text.get_text() for text in axes.get_yticklabels()] == list(data)
    assert axes.get_ylim() == (2.5, -0.5)
    first, second, _ = (bars[0] for bars in axes.containers)
    np.testing.assert_allclose(first.get_xydata(), [[0.3, 0.2]])
    np.testing.assert_allclose(second.get_xydata(), [[0.2, 2.2]])
    assert second.get_color() == "C0" and first.get_color() == "0.35"
    ends = axes.containers[0][2][0].get_segments()[0]
    np.testing.assert_allclose(ends[:, 0], [0.2, 0.4])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["test"]


def test_runs_are_thin_and_their_mean_is_thick(tmp_path):
    with panels(tmp_path / "a.png", size=(4, 3)) as axes:
        draw_runs(axes, [[3.0, 1.0], [5.0, 2.0]], color="C1", linewidth=2, label="mean")
        draw_runs(axes, [[1.0, 1.0]], x=[10, 20])
    *thin, mean = axes.lines[:3]
    assert [line.get_linewidth() for line in thin] == [0.8, 0.8] and mean.get_linewidth() == 2
    np.testing.assert_array_equal(mean.get_xydata(), [[1, 4.0], [2, 1.5]])
    np.testing.assert_array_equal(axes.lines[-1].get_xdata(), [10, 20])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mean"]


@pytest.mark.parametrize("width", [5, 8])
def test_a_long_title_is_broken_into_lines_that_fit(tmp_path, width):
    words = "Which of the two methods wins, and by how many percent MAML++ wins: " * 3
    with panels(tmp_path / "a.png", 1, 2, size=(width, 4), title=words) as (left, _):
        left.plot([1, 2])
    figure = left.figure
    figure.draw_without_rendering()
    box = figure._suptitle.get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
    assert box.y0 > left.bbox.y1 and box.y1 <= figure.bbox.y1
    assert " ".join(figure._suptitle.get_text().split("\n")) == words.strip()


def test_a_number_in_a_title_stays_with_its_sign_of_percent(tmp_path):
    with panels(
        tmp_path / "a.png", size=(2.3, 4), title="Within a budget it ends 12 % lower"
    ) as axes:
        axes.plot([1, 2])
    lines = axes.figure._suptitle.get_text().split("\n")
    assert len(lines) == 2 and not lines[1].startswith("%")


def test_means_are_written_above_their_dots(tmp_path):
    data = {"grid": interval(0.3, 0.1), "ours": interval(0.25, 0.05)}
    with panels(tmp_path / "a.png", size=(4, 3)) as axes:
        draw_intervals(axes, data, colors={"ours": "C0"}, digits=".2f")
    axes.figure.draw_without_rendering()
    assert [text.get_text() for text in axes.texts] == ["0.30", "0.25"]
    assert axes.texts[1].get_color() == "C0"
    for text, (value, line) in zip(axes.texts, [(0.3, 0), (0.25, 1)], strict=True):
        dot, box = axes.transData.transform([(value, line)])[0], text.get_window_extent()
        assert box.x0 < dot[0] < box.x1 and box.y0 > dot[1] + 3


def test_a_column_of_a_saved_table_is_one_of_intervals():
    cell = {"mean": 0.5, "half_width": 0.1, "n": 3}
    rows = [{"method": "grid", "loss": cell}, {"method": "none", "loss": None}, {"method": "less"}]
    assert column(rows, "loss", "method") == {
        "grid": Interval(0.5, 0.1, 3),
        "none": None,
        "less": None,
    }


def test_a_difference_in_words_has_the_right_side():
    assert beside(-0.114, ".1f", " %") == "0.1 % below"
    assert beside(3.0, ".0f") == "3 above"


@pytest.mark.parametrize("last", [1e6, np.inf, np.nan])
def test_a_line_that_leaves_the_panel_has_its_name_upright_where_it_does(tmp_path, last):
    with panels(tmp_path / "a.png", size=(4, 3)) as axes:
        axes.set(xlim=(0, 4), ylim=(0.1, 10), yscale="log")
        label_exit(axes, [0, 1, 2, 4], [1.0, 0.5, 2.0, last], "diverges", "C1")
        with pytest.raises(ValueError, match="'low' must leave the panel above 10"):
            label_exit(axes, [0, 4], [1.0, 2.0], "low", "C2")
    axes.figure.draw_without_rendering()
    (name,) = axes.texts
    box, line = name.get_window_extent(), axes.lines[0]
    assert name.get_color() == line.get_color() == "C1" and name.get_rotation() == 90
    at = axes.transData.inverted().transform([(box.x0, axes.bbox.y1)])[0, 0]
    assert 2 < at < 3  # a little to the right of where the line crosses the edge
    assert box.y1 <= axes.bbox.y1 + 1


def test_without_matplotlib_an_error_says_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # an import of it fails
    with pytest.raises(ImportError, match=r"-m pip install .*\[plot\]'"):
        panels(tmp_path / "a.png", size=(4, 3)).__enter__()
