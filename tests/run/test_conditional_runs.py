"""Runs over conditional spaces: what a function gets, and what is printed and written."""

import csv
import warnings

import jax
import pytest

import metahpo as mh
from metahpo.space import Branch

SPACE = {
    "x": mh.Float(0.0, 1.0),
    "model": mh.OneOf(
        svm={"C": mh.Float(0.0, 4.0)}, forest={"depth": mh.Int(1, 9), "seed": mh.Constant(7)}
    ),
    "method": mh.Constant("exact"),
}
FIRST = [
    {"x": 0.5, "model": ("svm", {"C": 1.0}), "method": "exact"},
    {"x": 0.0, "model": {"forest": {"depth": 9, "seed": 7}}, "method": "exact"},
]


def cost(h):
    return h["x"] + h["model"].switch(
        svm=lambda h: (h["C"] - 1.0) ** 2, forest=lambda h: 1.0 * h["depth"]
    )


def minimized(fn, **options):
    strategy = mh.strategies.tpe(SPACE, 6, capacity=12, initial=FIRST)
    return mh.minimize(fn, SPACE, strategy, rounds=2, seed=0, progress=False, **options)


@pytest.fixture(scope="module")
def result():
    return minimized(cost)


def test_a_function_gets_the_chosen_branch_and_its_own_values():
    seen = []
    minimized(lambda h: seen.append(h) or cost(h))
    assert seen[0] == {"x": 0.5, "model": Branch("svm", {"C": 1.0}), "method": "exact"}
    assert seen[1]["model"] == ("forest", {"depth": 9, "seed": 7})
    assert {type(h["model"]) for h in seen} == {Branch}


def test_the_best_is_printed_without_what_it_does_not_have(result):
    best = str(result).splitlines()[2]
    assert "model svm, model.svm.C" in best and "depth" not in best
    problem = mh.problems.function(cost)
    strategy = mh.strategies.random(
        SPACE,
        8,
    )
    run = jax.jit(lambda key: mh.search(key, problem, SPACE, strategy, rounds=1, steps=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a constant that nothing reads is no mistake
        with pytest.raises(UserWarning, match=r"nothing in the problem reads .*model.*svm.C"):
            mh.search(
                jax.random.key(0), mh.problems.function(lambda h: h["x"]), SPACE, strategy,
                rounds=1, steps=1,
            )  # fmt: skip
        found = run(jax.random.key(0))
    assert "model svm, model.svm.C" in str(found).splitlines()[2]
    many = jax.vmap(run)(jax.random.split(jax.random.key(0), 3))
    assert "model.svm.C [3]" in str(many)


def test_files_hold_the_branch_and_can_be_begun_with(result, tmp_path):
    mh.report.save_json(tmp_path / "best.json", result.best_hparams)
    best = mh.report.load_json(tmp_path / "best.json")
    name, values = result.best_hparams["model"]
    assert best["model"] == {name: values}
    strategy = mh.strategies.shade(SPACE, 6, initial=best)
    again = mh.minimize(cost, SPACE, strategy, rounds=1, progress=False)
    assert again.history.loss[0, 0] == pytest.approx(result.best_loss, rel=1e-4)
    rows = mh.report.candidates(SPACE, result)
    assert rows[0]["model.forest.depth"] is None and rows[1]["model.svm.C"] is None
    mh.report.save_csv(tmp_path / "rows.csv", rows)
    with open(tmp_path / "rows.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert (read[0]["model"], read[0]["model.svm.C"], read[0]["model.forest.depth"]) == (
        "svm",
        "1.0",
        "",
    )
    assert {row["method"] for row in read} == {"exact"}


@pytest.mark.parametrize("draw", [mh.report.draw_slices, mh.report.draw_parallel])
def test_pictures_leave_out_what_a_candidate_does_not_have(result, draw, tmp_path):
    pytest.importorskip("matplotlib")
    assert draw(SPACE, result, tmp_path / "a.png").stat().st_size > 1000


def test_a_run_is_resumed_and_a_strategy_with_another_constant_is_refused(result, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    calls = []

    def breaks(h):
        calls.append(h)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return cost(h)

    with pytest.raises(mh.run.InterruptedRun):
        minimized(breaks, directory=tmp_path)
    again = minimized(cost, directory=tmp_path, resume=True)
    assert again.history.loss.tolist() == result.history.loss.tolist()
    assert again.best_hparams == result.best_hparams
    other = mh.strategies.random(SPACE | {"method": mh.Constant("fast")}, 6)
    with pytest.raises(ValueError, match="its method is Constant.*fast.*, that of the run"):
        mh.minimize(cost, SPACE, other, rounds=1, progress=False)


def test_defaults_are_compared_with_a_search():
    compared = mh.compare(
        mh.problems.function(cost), SPACE,
        {"default": FIRST[0], "random": mh.strategies.random(SPACE, 4)},
        budget=8, steps=1, progress=False,
    )  # fmt: skip
    assert compared["default"].reached.loss.mean() == pytest.approx(0.5)
