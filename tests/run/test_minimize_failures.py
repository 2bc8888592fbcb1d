"""A function that fails or is interrupted: nothing is lost, and nobody is asked twice."""

import numpy as np
import pytest
from walking import SPACE, as_bytes, loss, run

import metahpo as mh
from metahpo.base import StopReason
from metahpo.run import EvaluationError, InterruptedRun


@pytest.fixture(scope="module")
def whole():
    """An uninterrupted run of seed 0."""
    return run()


def test_failures_may_count_as_infinite_and_are_kept_with_their_candidates():
    def fn(h):
        if h["n"] > 6:
            raise OverflowError("too many")
        return "few" if h["n"] < 3 else loss(h)

    result = run(fn, on_error="inf")
    failed = result.history.metrics["failed"]
    failures = result.failures
    assert 0 < len(result.failures) == np.isinf(result.history.loss).sum() == len(failures)
    np.testing.assert_array_equal(failed, np.isinf(result.history.loss))
    np.testing.assert_array_equal(failed, result.history.nonfinite)
    assert [(f.round, f.member) for f in failures] == list(zip(*np.nonzero(failed), strict=True))
    for failure in failures:
        assert failure.hparams["n"] > 6 or failure.hparams["n"] < 3
        wrong = "OverflowError('too many')" if failure.hparams["n"] > 6 else "got 'few' (str)"
        assert wrong in failure.message
    assert {f.hparams["n"] > 6 for f in failures} == {True, False}


class Stumbling:
    """A function that fails at one call, or does what else it is told to do there."""

    def __init__(self, at, fail):
        self.at, self.fail, self.seen = at, fail, []

    def __call__(self, h):
        self.seen.append(h)
        if len(self.seen) == self.at:
            return self.fail(h)
        return loss(h)


def interrupt(h):
    raise KeyboardInterrupt


def divide(h):
    return 1 / 0


@pytest.mark.parametrize(
    ("fail", "kinds"),
    [
        (interrupt, (InterruptedRun, KeyboardInterrupt)),
        (divide, (EvaluationError, RuntimeError)),
        (lambda h: None, (EvaluationError, RuntimeError)),
    ],
)
def test_nothing_is_lost_when_a_run_breaks_off_and_nobody_is_asked_twice(
    tmp_path, whole, fail, kinds
):
    fn = Stumbling(15, fail)  # the third of the fourth round
    kind, _ = kinds
    with pytest.raises(kind) as caught:
        run(fn, directory=tmp_path)
    assert all(isinstance(caught.value, each) for each in kinds)
    partial = caught.value.result
    assert partial.evaluations == 14 and partial.rounds == 3
    np.testing.assert_array_equal(partial.history.budget.ravel(), [1] * 14 + [0] * 6)
    np.testing.assert_array_equal(
        partial.history.loss.ravel()[:14], whole.history.loss.ravel()[:14]
    )
    assert np.isinf(partial.history.loss.ravel()[14:]).all()
    assert partial.best_loss == whole.history.loss.ravel()[:14].min()
    if isinstance(caught.value, EvaluationError):
        assert caught.value.failure[:3] == (3, 2, fn.seen[-1])

    again = Stumbling(3, fail)  # at another candidate
    with pytest.raises(kind):
        run(again, directory=tmp_path, resume=True)
    assert again.seen[0] == fn.seen[14]
    same = Stumbling(1, fail)  # and again at that one
    with pytest.raises(kind):
        run(same, directory=tmp_path, resume=True)
    assert same.seen == again.seen[2:]

    rest = Stumbling(0, fail)
    resumed = run(rest, directory=tmp_path, resume=True)
    assert fn.seen[:14] + again.seen[:2] + rest.seen == candidates(whole)
    assert as_bytes(resumed) == as_bytes(whole)
    assert resumed.best_hparams == whole.best_hparams
    assert resumed.evaluations == 20
    finished = run(rest, directory=tmp_path, resume=True)
    assert len(rest.seen) == 4
    assert as_bytes(finished) == as_bytes(whole)


def candidates(result):
    return mh.space.decoder(SPACE)(result.history.unit.reshape(-1, 3))


def test_an_interruption_without_a_folder_holds_the_result(whole):
    with pytest.raises(InterruptedRun, match="after 6 evaluations") as caught:
        run(Stumbling(7, interrupt))
    partial = caught.value.result
    np.testing.assert_array_equal(partial.history.loss[0], whole.history.loss[0])
    assert partial.stop_reason == StopReason.RUNNING


def test_failures_survive_a_resume(tmp_path):
    def fn(h):
        calls.append(h)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return 1 / 0 if h["n"] % 2 else loss(h)

    calls = []
    with pytest.raises(KeyboardInterrupt):
        run(fn, directory=tmp_path, on_error="inf")
    resumed = run(fn, directory=tmp_path, on_error="inf", resume=True)
    calls = [None] * 10
    straight = run(fn, on_error="inf")
    assert straight.failures == resumed.failures != []
    assert straight.failures[0].round < 2 < straight.failures[-1].round
