"""Committed pictures that ``results.json`` suffices for: a reader of a page can read them."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from metahpo import report
from metahpo.report.plots import MOST_LINES

pytest.importorskip("matplotlib")

# By its full name: the package has a function of the same one.
panels_module = importlib.import_module("metahpo.study.panels")
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NAMES = sorted(
    path.stem for path in EXPERIMENTS.glob("*.py") if "\nPICTURES = {" in path.read_text()
)
PAGE = 8.0  # inches, shown on 700 pixels


def texts(figure):
    """All that is written in the panels and beside them."""
    shown = [text for axes in figure.axes for text in axes.texts]
    for axes in figure.axes:
        shown += [axes.xaxis.label, axes.yaxis.label, axes.title]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=False)  # or none
            shown += [label for at, label in ticks if min(low, high) <= at <= max(low, high)]
    written = (figure._suptitle, figure._supxlabel, figure._supylabel)
    shown += [text for text in written if text is not None]
    return [text for text in shown if text.get_text().strip() and text.get_visible()]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, with everything in its place."""
    found = []
    save = panels_module.save_figure

    def keep(figure, path, dpi):
        save(figure, path, dpi)
        figure.draw_without_rendering()
        found.append(figure)

    monkeypatch.setattr(panels_module, "save_figure", keep)
    return found


def test_most_experiments_have_such_pictures():
    assert len(NAMES) >= 13


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_of_the_committed_results_is_readable(name, tmp_path, figures):
    study = importlib.import_module(f"experiments.{name}")
    results = report.load_json(EXPERIMENTS / "results" / name / "results.json")
    for file, draw in study.PICTURES.items():
        draw(results, tmp_path / file)
        assert (EXPERIMENTS / "results" / name / file).exists()
        assert (tmp_path / file).stat().st_size < 110_000
    assert len(figures) == len(study.PICTURES)
    for figure in figures:
        check(figure)


def check(figure):
    """At the width of a page all is written large enough, and nothing lies upon another."""
    assert figure.get_figwidth() <= PAGE
    assert figure._suptitle is not None and figure._suptitle.get_text()
    shown = texts(figure)
    assert min(text.get_fontsize() for text in shown) >= 8
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    touching = [(a, b) for i, (a, x) in enumerate(boxes) for b, y in boxes[:i] if x.overlaps(y)]
    assert touching == []
    assert [text for text, box in boxes if box.x0 < 0 or box.x1 > figure.bbox.x1] == []
    for axes in figure.axes:
        assert axes.get_subplotspec().get_gridspec().ncols <= 3
        names = {text.get_color() for text in axes.texts if text.get_color()[0] == "#"}
        assert len(names) <= MOST_LINES and axes.get_legend() is None


def rows_of(name):
    rows = report.load_json(EXPERIMENTS / "results" / name / "results.json")["rows"]
    return [
        {key: report.Interval(**x) if isinstance(x, dict) else x for key, x in row.items()}
        for row in rows
    ]


def test_the_picture_of_learned_schedules_is_readable(tmp_path, figures):
    from experiments import learned_schedule as study

    levels = {"start": 0.03, "constant, tuned": 0.06, "cosine, tuned": 0.031, study.OURS: 0.02}
    schedules = {name: np.full(200, np.log(level)) for name, level in levels.items()}
    study.plot(rows_of("learned_schedule"), {"schedules": schedules}, tmp_path / "a.png")
    check(figures[0])


def test_the_picture_of_the_edge_of_chaos_is_readable(tmp_path, figures):
    pytest.importorskip("sklearn")
    from experiments import edge_of_chaos as study

    at, rough = np.linspace(study.LOW, study.HIGH, 141), np.random.default_rng(0).normal(size=141)
    arrays = {"grid": at, "losses": 0.1 + 0.01 * rough, "log_rates": at, "level": 0.1 + at * 0.01}
    arrays["slope"] = np.full(141, 0.01)
    arrays["grads"] = {name: 0.1 * rough for name in ("es", "pes", "truncated, 10 steps")}
    arrays["grads"]["reverse"] = rough * 10.0 ** (5 * at)
    study.plot(rows_of("edge_of_chaos"), arrays, tmp_path / "a.png")
    check(figures[0])
