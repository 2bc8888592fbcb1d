"""A minimisation that goes on from an earlier one, by its state or in its folder."""

import pickle

import jax
import numpy as np
import pytest
from walking import SPACE, as_bytes, loss, run, walker

import metahpo as mh
from metahpo import stopping, strategies
from metahpo.base import StopReason


@pytest.fixture(scope="module")
def whole():
    return run(rounds=5)


def test_two_parts_are_one_run(whole):
    first = run(rounds=2)
    calls = []

    def counted(h):
        calls.append(h)
        return loss(h)

    both = run(counted, rounds=3, state=pickle.loads(pickle.dumps(first.state)))
    assert as_bytes(both) == as_bytes(whole)
    assert len(calls) == both.evaluations - first.evaluations


def test_a_round_that_the_time_cut_short_is_finished():
    clock = iter(range(100))

    def slow(h):
        if next(clock) == 6:
            raise KeyboardInterrupt
        return loss(h)

    with pytest.raises(mh.run.InterruptedRun) as cut:
        run(slow, rounds=5)
    state = cut.value.result.state
    assert cut.value.result.rounds == 1 and (state.number >= 0).sum() == 6
    assert as_bytes(run(rounds=4, state=state)) == as_bytes(run(rounds=5))


def test_failures_are_kept():
    options = {"strategy": strategies.random(SPACE, 8), "on_error": "inf"}
    first = run(lambda h: 1 / 0 if h["x"] > 0 else loss(h), rounds=2, **options)
    both = run(rounds=1, state=first.state, **options)
    assert both.failures == first.failures and len(first.failures) > 0


def test_a_stricter_target_is_reached_afterwards():
    def target(value):
        return stopping.when(target=value)

    whole = run(rounds=50, strategy=walker(), stop=target(0.1))
    first = run(rounds=50, strategy=walker(), stop=target(0.6))
    assert first.stop_reason == StopReason.TARGET and first.rounds < whole.rounds
    both = run(rounds=50, strategy=walker(), stop=target(0.1), state=first.state)
    assert both.rounds == whole.rounds and both.stop_reason == StopReason.TARGET
    np.testing.assert_array_equal(
        both.history.loss[: both.rounds], whole.history.loss[: both.rounds]
    )


def test_a_folder_goes_on_with_more_rounds_and_another_rule(tmp_path, whole):
    run(rounds=2, directory=tmp_path, stop=stopping.when(evaluations=3))
    assert as_bytes(run(rounds=5, directory=tmp_path, resume=True)) == as_bytes(whole)
    with pytest.raises(ValueError, match="has 5 rounds, more than the 4 asked"):
        run(rounds=4, directory=tmp_path, resume=True)


def test_ask_and_tell_go_on_from_a_state_too():
    strategy = strategies.random(SPACE, 3)
    first = mh.run.AskTell(SPACE, strategy, rounds=2)
    for _ in range(4):
        first.ask()
    first.tell(2, 0.5)
    again = mh.run.AskTell(SPACE, strategy, rounds=2, state=first.state)
    assert [again.ask().number for _ in range(3)] == [0, 1, 3]
    assert again.lowest == 0.5 and again.limit == 2


def test_what_the_state_does_not_fit_is_refused(tmp_path):
    state = run(rounds=1).state
    with pytest.raises(ValueError, match="the state does not lead to the same candidate 0 again"):
        run(rounds=1, state=state, key=jax.random.key(9))
    with pytest.raises(ValueError, match="from its state or from its directory, got both"):
        run(rounds=1, state=state, directory=tmp_path, resume=True)
    with pytest.raises(ValueError, match="state"):
        run(rounds=1, state={"number": [1]})


def test_a_strategy_of_callables_without_a_hash_runs_too(whole):
    class Ask:
        __hash__ = None

        def __call__(self, *args):
            return walker().ask(*args)

    assert as_bytes(run(strategy=walker()._replace(ask=Ask()))) == as_bytes(whole)
