"""Pictures of several panels: the style of the house, intervals and runs at their places."""

import sys

import numpy as np
import pytest

from metahpo.report import Interval
from metahpo.study import draw_intervals, draw_runs, panels

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


def test_without_matplotlib_an_error_says_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # an import of it fails
    with pytest.raises(ImportError, match=r"-m pip install .*\[plot\]'"):
        panels(tmp_path / "a.png", size=(4, 3)).__enter__()
