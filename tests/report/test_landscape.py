"""Pictures of candidates: they show what was evaluated, and refuse what is not one run."""

import numpy as np
import pytest

import metahpo as mh
from metahpo.report import landscape
from metahpo.report.landscape import _candidates, _snapped, _ticks
from metahpo.run.records import SearchHistory

SPACE = {"rate": mh.Float(1e-4, 1.0, log=True), "n": mh.Int(1, 3), "kind": mh.Choice(("a$", "b"))}


def history(rounds=2, members=8):
    generator = np.random.default_rng(0)
    loss = generator.random((rounds, members))
    loss[0, 0] = np.inf
    budget = np.ones((rounds, members), int)
    budget[1, 3] = 0
    unit = generator.random((rounds, members, 3))
    parent = np.full((rounds, members), -1)
    return SearchHistory(unit, loss, parent, budget, None, None, ~np.isfinite(loss))


@pytest.mark.parametrize("draw", [mh.report.draw_slices, mh.report.draw_parallel])
def test_a_picture_is_written_whole_and_refuses_several_runs(draw, tmp_path):
    pytest.importorskip("matplotlib")
    path = draw(SPACE, history(), tmp_path / "new" / "picture.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    two = SearchHistory(*[None if x is None else np.stack([x, x]) for x in history()])
    with pytest.raises(ValueError, match="a picture is of one run"):
        draw(SPACE, two, tmp_path / "two.png")
    with pytest.raises(ValueError, match="3 coordinates, but the space has 1"):
        draw({"x": mh.Float(0.0, 1.0)}, history(), tmp_path / "other.png")
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_idle_slots_are_no_candidates():
    unit, loss, rounds = _candidates(SPACE, history())
    assert unit.shape == (15, 3)
    assert np.isinf(loss).sum() == 1
    np.testing.assert_array_equal(np.bincount(rounds), [8, 7])


def test_ticks_are_values_where_they_stand():
    at, labels = _ticks(SPACE["rate"])
    np.testing.assert_allclose(at, [0, 1 / 3, 2 / 3, 1])
    assert labels == ["0.0001", "0.00215", "0.0464", "1"]
    at, labels = _ticks(SPACE["n"])
    np.testing.assert_allclose(at, [1 / 6, 1 / 2, 5 / 6], rtol=1e-6)
    assert _ticks(SPACE["kind"]) == ([0.25, 0.75], [r"a\$", "b"])
    np.testing.assert_allclose(
        _snapped(SPACE["n"], np.array([0.3, 0.9])), [1 / 6, 5 / 6], rtol=1e-6
    )


def test_ticks_of_neighbouring_panels_stay_apart(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    figures = []
    save = landscape.save_figure
    monkeypatch.setattr(
        landscape, "save_figure", lambda f, path: figures.append(f) or save(f, path)
    )
    space = {name: mh.Float(1e-4, 1e4, log=True) for name in ("a", "b", "c")}
    mh.report.draw_slices(space, history(), tmp_path / "slices.png")
    figure = figures[0]
    figure.draw_without_rendering()
    labels = [label for axes in figure.axes[:3] for label in axes.get_xticklabels()]
    found = [label.get_window_extent() for label in labels]
    assert len(found) == 12
    lowest = _candidates(space, history())[1].min()
    title = f"lowest loss {lowest:.4g} (ringed) of 15 candidates; 1 not finite (crosses)"
    assert figure._suptitle.get_text() == title
    space = 0.5 * 8 * figure.dpi / 72  # half a letter
    assert all(b.x0 - a.x1 > space for a, b in zip(found, found[1:], strict=False))


def test_an_ordered_choice_is_shown_by_its_values():
    space = {"n": mh.Choice((16, 32, 64), shape=(2,), ordered=True), "x": mh.Float(0.0, 1.0)}
    dims = landscape._dimensions(space)
    assert list(dims) == ["n[0]", "n[1]", "x"]
    assert _ticks(dims["n[1]"])[1] == ["16", "32", "64"]
    np.testing.assert_allclose(_ticks(dims["n[1]"])[0], [1 / 6, 1 / 2, 5 / 6], rtol=1e-6)


def test_nothing_is_drawn_where_a_coordinate_is_not_active():
    space = {"m": mh.OneOf(a=mh.Float(0.0, 1.0), b=mh.Int(1, 3))}
    unit, _, _ = _candidates(space, history())
    chose_a = unit[:, 0] < 0.5
    np.testing.assert_array_equal(np.isnan(unit[:, 1]), ~chose_a)
    np.testing.assert_array_equal(np.isnan(unit[:, 2]), chose_a)
    np.testing.assert_array_equal(np.isnan(_snapped(mh.Int(1, 3), unit[:, 2])), chose_a)
