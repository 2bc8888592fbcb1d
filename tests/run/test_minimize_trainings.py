"""Candidates that train a little and go on from there, when they are promoted."""

import pickle

import numpy as np
import pytest
from scripted import Killed, Scripted, script
from walking import as_bytes

import metahpo as mh
from metahpo import strategies
from metahpo.base import StopReason
from metahpo.run.log import Log
from metahpo.run.states import States

SPACE = {"rate": mh.Float(0.01, 1.2)}
ASHA = strategies.asha(SPACE, 12, 9)
HALVING = strategies.successive_halving(SPACE, 9, 9)
HYPERBAND = strategies.hyperband(SPACE, 9, 9)


def train(h, steps, state):
    """Descent on a parabola; keeps count of its updates."""
    done, x = state or (0, 1.0)
    for _ in range(steps):
        x -= h["rate"] * 2 * x
    return x**2 + 1e-3 * h["rate"], (done + steps, x)


def check_trainings(result):
    """Every loss is that of a whole training of as many updates."""
    budget = result.history.budget
    for unit, steps, loss in zip(
        result.history.unit.reshape(-1, 1), budget.ravel(), result.history.loss.ravel(), strict=True
    ):
        if steps:
            h = mh.space.decoder(SPACE)(unit[None])[0]
            assert loss == train(h, int(steps), None)[0]
    return [int((budget == steps).sum()) for steps in (1, 3, 9)]


@pytest.fixture
def run(monkeypatch):
    """A run by workers who end in a scripted order."""
    executors = []
    script(monkeypatch, executors)

    def run(strategy, fn=train, workers=4, kill_after=None, **options):
        executors.append(Scripted(workers, kill_after=kill_after))
        run.executor = executors[-1]
        options = {"asynchronous": strategy is ASHA, "progress": False} | options
        return mh.minimize(fn, SPACE, strategy, workers=executors[-1], **options)

    return run


def test_asha_by_one_worker_is_asha_in_rounds(run):
    one_by_one = mh.minimize(train, SPACE, ASHA, progress=False)
    assert as_bytes(run(ASHA, workers=1)) == as_bytes(one_by_one)
    assert one_by_one.stop_reason == StopReason.BUDGET
    assert check_trainings(one_by_one)[0] == 12


def test_asha_by_many_workers_promotes_as_it_does_when_it_is_asked_and_told(run):
    result = run(ASHA)
    tuner, states = mh.run.AskTell(SPACE, ASHA, trainings=True), {None: None}
    asked = {}
    for number in result.state.number.tolist():
        if number < 0:
            asked[~number] = tuner.ask()
            continue
        c = asked[number]
        loss, states[number] = train(c.hparams, c.budget, states[c.parent])
        tuner.tell(number, loss)
    assert as_bytes(tuner.result()) == as_bytes(result)
    begun, promoted, at_the_top = check_trainings(result)
    assert begun == 12 and promoted >= 4 and at_the_top >= 1
    assert run.executor.most == 4 and result.stop_reason == StopReason.BUDGET


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [ASHA, HALVING])
def test_trainings_that_were_killed_anywhere_go_on_as_if_they_had_not_been(run, strategy, tmp_path):
    options = {"rounds": None if strategy is ASHA else 4}
    whole = run(strategy, **options)
    for told in range(1, whole.evaluations, 3):
        folder = tmp_path / f"{told}"
        with pytest.raises(Killed):
            run(strategy, directory=folder, kill_after=told, **options)
        resumed = run(strategy, directory=folder, resume=True, **options)
        assert as_bytes(resumed) == as_bytes(whole)
        if strategy is ASHA:
            assert len(run.executor.seen) == whole.evaluations - told


@pytest.mark.parametrize(
    ("owner", "name"), [(States, "keep"), (Log, "told"), (States, "forget_all_but")]
)
def test_a_run_killed_between_a_state_and_its_loss_goes_on(run, monkeypatch, tmp_path, owner, name):
    whole = run(ASHA)
    for at in (2, 9):
        folder = tmp_path / f"{at}"
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(owner, name, killed_at(at, getattr(owner, name)))
            run(ASHA, directory=folder)
        resumed = run(ASHA, directory=folder, resume=True)
        assert as_bytes(resumed) == as_bytes(whole)
        assert len(list((folder / "states").iterdir())) == 12


def killed_at(call, plain):
    """A function that is killed as one of its calls begins."""
    calls = []

    def killed(*args):
        calls.append(args)
        if len(calls) == call:
            raise Killed
        return plain(*args)

    return killed


def test_as_many_states_are_kept_as_there_are_trainings_to_go_on_from(run, tmp_path):
    result = run(ASHA, directory=tmp_path)
    files = sorted((tmp_path / "states").iterdir())
    assert len(files) == 12 < result.evaluations  # a configuration has the last of its states
    steps = [pickle.loads(path.read_bytes())[0] for path in files]
    left, promoted, at_the_top = check_trainings(result)
    assert [steps.count(n) for n in (1, 3, 9)] == [
        left - promoted,
        promoted - at_the_top,
        at_the_top,
    ]
    assert [path.name for path in files][-1] == f"{result.evaluations - 1:08d}.pkl"


def test_a_state_that_is_missing_is_named(run, tmp_path):
    with pytest.raises(Killed):
        run(ASHA, directory=tmp_path, kill_after=3)
    for path in (tmp_path / "states").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"state of candidate \d.* is missing: .*\.pkl"):
        run(ASHA, directory=tmp_path, resume=True)


@pytest.mark.parametrize(("strategy", "rungs"), [(HALVING, [9, 3, 1]), (HYPERBAND, [9, 8, 5])])
def test_brackets_keep_the_best_and_train_them_on(run, strategy, rungs):
    rounds = 3 if strategy is HALVING else 6
    result = run(strategy, rounds=rounds)
    assert check_trainings(result) == rungs
    assert result.rounds == rounds and run.executor.most == 4
    if strategy is HALVING:
        first = result.history.loss[0]
        np.testing.assert_array_equal(
            np.flatnonzero(result.history.budget[1]), np.sort(np.argsort(first)[:3])
        )


def test_a_training_that_is_tried_again_begins_with_the_state_as_it_was(run):
    calls = []

    def fn(h, steps, state):
        state = state or []
        state += [h["rate"]] * steps  # changes what it was given
        calls.append(h)
        if calls.count(h) == 2:
            raise RuntimeError("once")
        return h["rate"] + len(state), state

    result = run(ASHA, fn=fn, retries=1)
    known = result.history.budget > 0
    rates = 0.01 + 1.19 * result.history.unit[..., 0].astype(float)
    np.testing.assert_allclose(
        result.history.loss[known], (rates + result.history.budget)[known], rtol=1e-5
    )
    assert calls.count(calls[0]) >= 1 and len(calls) > result.evaluations


def test_population_based_training_goes_on_from_whoever_was_better():
    def fn(h, steps, state):
        assert steps is None
        lineage = [*(state or []), h["rate"]]
        return sum(lineage), lineage

    strategy = strategies.pbt(SPACE, 8)
    result = mh.minimize(fn, SPACE, strategy, rounds=4, progress=False)
    np.testing.assert_array_equal(result.history.budget, np.arange(1, 5)[:, None].repeat(8, 1))
    rates = np.array([[h["rate"] for h in mh.space.decoder(SPACE)(u)] for u in result.history.unit])
    sums = rates[0]
    for t in range(1, 4):
        sums = sums[result.history.parent[t]] + rates[t]
    np.testing.assert_allclose(result.history.loss[-1], sums)
    assert (result.history.parent[1] != np.arange(8)).any()


@pytest.mark.parametrize(
    ("fn", "strategy", "message"),
    [
        (lambda h: 1.0, ASHA, r"\(hparams, steps, state\) -> \(loss, state\), as asha grants"),
        (lambda h: 1.0, HALVING, r"\(loss, state\), as this strategy grants budgets"),
        (train, strategies.random(SPACE, 2), r"fn must be a function \(hparams\) -> loss: "),
        (lambda h, steps: 1.0, strategies.pbt(SPACE, 4), r"\(hparams\) -> loss or \(hparams, st"),
    ],
)
def test_a_function_of_another_form_than_the_strategy_needs_is_refused(fn, strategy, message):
    with pytest.raises(ValueError, match=message):
        mh.minimize(fn, SPACE, strategy, rounds=1, progress=False)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (1.0, r"it must return \(loss, state\), got 1.0 \(float\)"),
        (("low", None), r"it must return a real scalar, got 'low' \(str\)"),
        ((1.0, lambda: 0), "it must return a state that can be pickled, got a function: "),
    ],
)
def test_what_a_training_must_return_is_said(found, message):
    with pytest.raises(mh.run.EvaluationError, match=message):
        mh.minimize(lambda h, steps, state: found, SPACE, ASHA, progress=False)
