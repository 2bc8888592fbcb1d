"""A worker that dies costs its candidate and nothing else."""

import functools
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from dying import deadly, locked, square
from scripted import Scripted, script

import metahpo as mh
from metahpo.run import EvaluationError
from metahpo.run.candidates import called, sent

SPACE = {"x": mh.Float(-1.0, 1.0)}
STRATEGY = mh.strategies.random(SPACE, 4)


def minimize(fn=square, rounds=4, **options):
    return mh.minimize(fn, SPACE, STRATEGY, rounds=rounds, progress=False, **options)


@pytest.fixture(scope="module")
def whole():
    return minimize()


@pytest.fixture
def pools(monkeypatch):
    """Makes executors that break, and keeps them."""
    made = []
    script(monkeypatch, made)

    def pools(breaks):
        def make():
            made.append(Scripted(3, breaks))
            return made[-1]

        return make, made

    return pools


def lethal(h):
    return h["x"] < -0.5


@pytest.mark.parametrize("asynchronous", [False, True])
def test_only_the_candidate_that_kills_its_worker_fails(pools, whole, asynchronous):
    make, made = pools(lethal)
    result = minimize(workers=make, asynchronous=asynchronous, on_error="inf")
    died = whole.history.unit[..., 0] < 0.25
    assert 1 < died.sum() < 8
    np.testing.assert_array_equal(result.history.metrics["failed"], died)
    np.testing.assert_array_equal(result.history.unit, whole.history.unit)
    np.testing.assert_array_equal(result.history.loss, np.where(died, np.inf, whole.history.loss))
    assert {failure.hparams["x"] for failure in result.failures} == {
        2 * u - 1 for u in whole.history.unit[died][:, 0].tolist()
    }
    assert "WorkerDiedError('it was killed, ran out of memory" in result.failures[0].message
    assert sum(pool.broken for pool in made) >= died.sum()
    assert sum(len(pool.seen) for pool in made) == 16 - died.sum()  # nobody else twice


def test_a_worker_that_dies_by_chance_costs_nothing(pools, whole):
    breaks = iter([False, False, True])
    make, made = pools(lambda h: next(breaks, False))
    result = minimize(workers=make, asynchronous=True)
    np.testing.assert_array_equal(result.history.loss, whole.history.loss)
    assert len(made) == 2 and made[0].most == made[1].most == 3


def test_a_candidate_is_tried_as_often_as_was_asked_for(pools):
    tries = []

    def breaks(h):
        if lethal(h):
            tries.append(h["x"])
        return lethal(h) and tries.count(h["x"]) < 4

    make, _ = pools(breaks)
    assert minimize(workers=make, retries=3).failures == []
    with pytest.raises(EvaluationError, match="failed at {'x': -0.* WorkerDiedError"):
        tries.clear()
        minimize(workers=make, retries=1)


def test_a_failure_is_retried_too(whole):
    calls = []

    def fn(h):
        calls.append(h["x"])
        return 1 / 0 if calls.count(h["x"]) < 3 and h["x"] > 0 else square(h)

    for asynchronous in (False, True):
        calls.clear()
        result = minimize(fn, workers=2, retries=2, asynchronous=asynchronous)
        np.testing.assert_array_equal(result.history.loss, whole.history.loss)
    calls.clear()
    with pytest.raises(EvaluationError, match="ZeroDivisionError"):
        minimize(fn, retries=1)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_executor_that_cannot_be_made_anew_ends_the_run_and_nothing_is_lost(
    pools, whole, tmp_path, asynchronous
):
    breaks = iter([False, False, True])
    make, made = pools(lambda h: next(breaks, False))
    options = {"asynchronous": asynchronous, "directory": tmp_path}
    with pytest.raises(BrokenExecutor, match=r"workers=lambda: ProcessPoolExecutor\(4\)"):
        minimize(workers=make(), **options)
    result = minimize(workers=make(), resume=True, **options)
    np.testing.assert_array_equal(result.history.loss, whole.history.loss)
    assert len(made[0].seen) == 2 and len(made[1].seen) == 14


def test_processes_that_die_are_replaced(whole):
    context = get_context("forkserver")
    context.set_forkserver_preload(["metahpo", "dying"])
    make = functools.partial(ProcessPoolExecutor, 2, mp_context=context)
    result = minimize(deadly, workers=make, asynchronous=True, on_error="inf")
    died = whole.history.unit[..., 0] < 0.25
    np.testing.assert_array_equal(result.history.loss, np.where(died, np.inf, whole.history.loss))
    with make() as pool:
        result = minimize(locked, workers=pool, on_error="inf")
        np.testing.assert_array_equal(result.history.metrics["failed"], died)
        with pytest.raises(ValueError, match="got test_.*<lambda>.*at the top level of a module"):
            minimize(lambda h: 0.0, workers=pool)


def test_an_exception_that_would_break_the_pool_is_sent_in_words():
    assert isinstance(sent(called, locked, {"x": -0.7}).loss, RuntimeError)
    assert isinstance(sent(called, lambda h: h["y"], {"x": -0.7}).loss, KeyError)
    assert sent(called, locked, {"x": 0.5}).loss == 0.25


def test_what_makes_no_executor_is_refused():
    with pytest.raises(ValueError, match="a function that makes an executor, got one that makes 5"):
        minimize(workers=lambda: 5)
    with pytest.raises(ValueError, match="retries must be a whole number of at least 0, got -1"):
        minimize(retries=-1)
