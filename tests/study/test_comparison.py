"""A comparison is saved method by method, resumed, and refuses what is not its own."""

import json
import time

import numpy as np
import pytest

from metahpo import report
from metahpo.study import (
    Comparison,
    Trials,
    against,
    as_findings,
    reached,
    redraw,
    run,
    timed,
    write,
)
from metahpo.study.results import _without_shared, over_tasks, redrawn


def trials(offset):
    """Two tasks, three seeds, four evaluations whose losses fall by one each."""
    loss = np.arange(4.0, 0.0, -1.0) + np.zeros((2, 3, 4)) + offset
    loss += np.arange(3)[None, :, None] * 0.1 + np.arange(2)[:, None, None]
    return Trials(loss, -loss, 1.0, 0.5, 0.25)


class Counted:
    """Methods that count how often they run."""

    def __init__(self, settings=None):
        self.calls = []
        methods = {name: self.method(name, i) for i, name in enumerate(("first", "second"))}
        self.comparison = Comparison(
            name="toy",
            methods=methods,
            setting=None,
            settings={"seed": 0} if settings is None else settings,
            budgets=[1, 2, 4],
            loss_label="loss",
            score_label="score",
            reference="first",
        )

    def method(self, name, offset):
        def call(setting):
            self.calls.append(name)
            return trials(offset)

        return call


def test_the_best_within_a_budget_is_chosen_by_loss_alone():
    loss = np.array([[[3.0, 1.0, 2.0, np.inf]]])
    score = np.array([[[0.9, 0.5, 0.8, 1.0]]])
    best = reached(Trials(loss, score, 2.0, 0.0, 0.0), [1, 2, 3, 4, 8])
    np.testing.assert_array_equal(best.loss[:, 0, 0], [np.nan, 3.0, 3.0, 1.0, 1.0])
    np.testing.assert_array_equal(best.score[:, 0, 0], [np.nan, 0.9, 0.9, 0.5, 0.5])


def test_compiling_and_running_are_timed_apart():
    traced = []

    def fn(x):
        traced.append(x)
        time.sleep(0.2)  # while it is traced
        return x + 1

    result, compiling, running = timed(fn, np.arange(3))
    np.testing.assert_array_equal(result, [1, 2, 3])
    assert len(traced) == 1 and compiling >= 0.2 > running > 0


def test_intervals_are_over_tasks_because_seeds_of_one_task_are_not_independent():
    values = np.array([[1.0, 3.0], [5.0, 7.0]])
    assert over_tasks(values) == report.interval([2.0, 6.0])
    assert over_tasks(values[:1]) == report.interval([1.0, 3.0])


def test_results_table_and_plots_are_written(tmp_path):
    counted = Counted()
    outcomes = run(counted.comparison, ["first", "second"], tmp_path / "new", resume=False)
    found = as_findings(counted.comparison, outcomes)
    write(tmp_path / "new", found)
    assert against(outcomes, "second", "first").mean == pytest.approx(1.0)
    saved = json.loads((tmp_path / "new" / "results.json").read_text())
    # At budget 4 the loss is 1, plus 0.1 for the mean seed, plus 0 or 1 for the task.
    assert saved["methods"]["first"]["loss"][-1]["mean"] == pytest.approx(1.6)
    assert saved["methods"]["second"]["loss_minus"]["first"][0]["mean"] == pytest.approx(1.0)
    for picture in ("loss_against_budget.png", "score_by_method.png"):
        assert (tmp_path / "new" / picture).read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "new" / "table.md").read_text()
    assert "second" in table
    assert [row["@1"] for row in found.rows] == [
        pytest.approx(4.6),
        pytest.approx(5.6),
    ]


def test_the_picture_of_the_losses_is_drawn_again_from_the_results(tmp_path):
    pytest.importorskip("matplotlib")
    comparison = Counted().comparison
    write(tmp_path, as_findings(comparison, run(comparison, ["first", "second"], None)))
    picture = tmp_path / "loss_against_budget.png"
    before = picture.read_bytes()
    picture.unlink()
    redraw(tmp_path, redrawn(comparison))
    assert picture.read_bytes() == before


def test_bands_of_paired_differences_are_those_of_the_values():
    values = np.random.default_rng(0).normal(size=(4, 3, 7))  # methods, budgets, tasks
    values[0, 0] = np.nan  # nothing yet
    methods = {
        i: {
            "loss_minus": {j: [report.interval(x) for x in values[i] - values[j]] for j in range(4)}
        }
        for i in range(4)
    }
    own = report.without_shared_differences(values)
    expected = report.interval(np.moveaxis(own, -1, 0)).half_width
    np.testing.assert_allclose(_without_shared(methods), expected, atol=1e-12)


def test_a_resumed_run_takes_finished_methods_from_the_folder(tmp_path):
    run(Counted().comparison, ["first"], tmp_path, resume=False)
    again = Counted()
    outcomes = run(again.comparison, ["first", "second"], tmp_path, resume=True)
    assert again.calls == ["second"]
    whole = run(Counted().comparison, ["first", "second"], tmp_path / "whole", resume=False)
    for name in whole:
        np.testing.assert_array_equal(whole[name].trials.loss, outcomes[name].trials.loss)
        assert whole[name].trials[2:] == outcomes[name].trials[2:]


def test_a_folder_that_is_not_empty_needs_resume(tmp_path):
    (tmp_path / "other.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        run(Counted().comparison, ["first"], tmp_path, resume=False)
    with pytest.raises(ValueError, match=r"no settings\.json"):
        run(Counted().comparison, ["first"], tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_another_run_is_not_resumed(tmp_path):
    run(Counted().comparison, ["first"], tmp_path, resume=False)
    with pytest.raises(ValueError, match="another run.*seed is 0 there, 1 here"):
        run(Counted({"seed": 1}).comparison, ["first"], tmp_path, resume=True)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 9])
def test_damaged_trials_are_refused_and_left_alone(tmp_path, damage):
    run(Counted().comparison, ["first"], tmp_path, resume=False)
    path = tmp_path / "parts" / "first.npz"
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"first\.npz is damaged"):
        run(Counted().comparison, ["first"], tmp_path, resume=True)
    assert path.read_bytes() == before


def test_unknown_methods_are_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"'typo'.*first, second"):
        run(Counted().comparison, ["typo"], tmp_path / "new", resume=False)
    assert not (tmp_path / "new").exists()


def test_an_unwritable_folder_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    counted = Counted()
    with pytest.raises(ValueError, match="must be writable"):
        run(counted.comparison, ["first"], tmp_path / "file" / "out", resume=False)
    assert counted.calls == []
