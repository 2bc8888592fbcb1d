"""Candidates evaluated at once, and for so long."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import metahpo as mh

SPACE = {"x": mh.Float(-1.0, 1.0), "n": mh.Int(1, 9)}


def square(h):
    return h["x"] ** 2 + h["n"]


def minimize(fn=square, rounds=4, name="differential_evolution", **options):
    strategy = getattr(mh.strategies, name)(SPACE, 8)
    return mh.minimize(fn, SPACE, strategy, rounds=rounds, progress=False, **options)


@pytest.mark.parametrize("name", ["differential_evolution", "cma_es", "random"])
def test_result_is_the_same_with_workers(name):
    def slower_first(h):
        time.sleep(0.002 * (h["x"] < 0))
        return square(h)

    alone, together = minimize(name=name), minimize(slower_first, name=name, workers=4)
    jax.tree.map(np.testing.assert_array_equal, alone.history, together.history)
    assert alone.best_hparams == together.best_hparams


def test_as_many_run_at_once_as_there_are_workers():
    within, most, lock = 0, 0, threading.Lock()

    def fn(h):
        nonlocal within, most
        with lock:
            within += 1
            most = max(most, within)
        time.sleep(0.01)
        with lock:
            within -= 1
        return square(h)

    minimize(fn, workers=3)
    assert most == 3


def test_an_executor_of_ones_own_serves():
    with ThreadPoolExecutor(2) as pool:
        together = minimize(workers=pool)
    np.testing.assert_array_equal(together.history.loss, minimize().history.loss)


def test_failures_in_workers_are_those_of_one():
    def failing(h):
        if h["n"] > 5:
            raise RuntimeError("too many")
        return square(h)

    one, many = (minimize(failing, on_error="inf", workers=n) for n in (1, 4))
    np.testing.assert_array_equal(one.history.loss, many.history.loss)
    assert [f.message for f in one.failures] == [f.message for f in many.failures]
    with pytest.raises(mh.run.EvaluationError, match="too many"):
        minimize(failing, workers=4)


def test_time_that_is_over_ends_the_run_with_its_result():
    def slow(h):
        time.sleep(0.02)
        return square(h)

    result = minimize(slow, rounds=1000, seconds=0.3)
    assert 1 <= result.evaluations <= 20
    assert np.isfinite(result.best_loss)


def test_an_infinite_loss_is_a_broken_constraint_and_no_failure():
    calls = []

    def constrained(h):
        calls.append(h)
        return square(h) if len(calls) > 20 else float("inf")

    assert np.isfinite(minimize(constrained).best_loss)
    with pytest.raises(ValueError, match="all failed or returned NaN"):
        minimize(lambda h: float("nan"))


@pytest.mark.parametrize(("options", "rule"), [
    ({"workers": 0}, "workers must be a whole number of at least 1, got 0"),
    ({"fn": 5}, "fn must be a function"),
])  # fmt: skip
def test_impossible_options_are_refused(options, rule):
    with pytest.raises(ValueError, match=rule):
        minimize(**options)
