"""A candidate for whoever is free: the losses' order decides, and a log keeps it."""

import json
import shutil

import numpy as np
import pytest
from scripted import Killed, Scripted, script
from walking import as_bytes

import metahpo as mh
from metahpo import stopping, strategies
from metahpo.base import StopReason

SPACE = {"x": mh.Float(-1.0, 1.0), "n": mh.Int(1, 9)}
ONE_BY_ONE = strategies.sobol(SPACE, 1)
IN_FOURS = strategies.random(SPACE, 4)


def loss(h):
    return h["x"] ** 2 + h["n"]


@pytest.fixture
def run(monkeypatch):
    """An asynchronous run by three workers who end in a scripted order."""
    executors = []
    script(monkeypatch, executors)

    def run(strategy=ONE_BY_ONE, fn=loss, rounds=12, workers=3, kill_after=None, **options):
        executors.append(Scripted(workers, kill_after=kill_after))
        run.executor = executors[-1]
        return mh.minimize(
            fn,
            SPACE,
            strategy,
            rounds=rounds,
            workers=executors[-1],
            asynchronous=True,
            progress=False,
            **options,
        )

    return run


def by_hand(strategy, state, **options):
    """Asks and tells as a run did."""
    tuner = mh.run.AskTell(SPACE, strategy, **options)
    for number, value in zip(state.number.tolist(), state.loss.tolist(), strict=True):
        if number < 0:
            assert tuner.ask().number == ~number
        else:
            tuner.tell(number, value)
    return tuner.result()


@pytest.mark.parametrize(
    ("strategy", "rounds"),
    [
        (ONE_BY_ONE, 12),
        (IN_FOURS, 3),
        pytest.param(
            strategies.gaussian_process(SPACE, 1, capacity=16), 12, marks=pytest.mark.optimised
        ),
    ],
)
def test_nobody_waits_and_the_order_of_losses_decides(run, strategy, rounds):
    result = run(strategy, rounds=rounds)
    order = result.state.number.tolist()
    assert order[:3] == [~0, ~1, ~2] and run.executor.most == 3
    told = [number for number in order if number >= 0]
    assert sorted(told) == list(range(12)) != told
    under_way = np.cumsum([1 if number < 0 else -1 for number in order])
    assert set(under_way[2:-2].tolist()) == {2, 3}  # another as soon as one has ended
    assert as_bytes(by_hand(strategy, result.state, rounds=rounds)) == as_bytes(result)
    assert (result.rounds, result.stop_reason) == (rounds, StopReason.BUDGET)
    assert result.best_loss == min(map(loss, run.executor.seen))


@pytest.mark.parametrize(("strategy", "rounds"), [(ONE_BY_ONE, 12), (IN_FOURS, 3)])
def test_a_run_that_was_killed_anywhere_ends_as_if_it_had_not_been(run, strategy, rounds, tmp_path):
    whole = run(strategy, rounds=rounds)
    for told in range(12):
        folder = tmp_path / f"{told}"
        with pytest.raises(Killed):
            run(strategy, rounds=rounds, directory=folder, kill_after=told)
        known = run.executor.seen
        resumed = run(strategy, rounds=rounds, directory=folder, resume=True)
        assert as_bytes(resumed) == as_bytes(whole)
        assert len(known) == told and len(run.executor.seen) == 12 - told  # nobody twice
        again = run(strategy, rounds=rounds, directory=folder, resume=True)
        assert as_bytes(again) == as_bytes(whole) and run.executor.seen == []


def test_a_log_that_breaks_off_anywhere_leads_to_the_same_end(run, tmp_path):
    whole = run(directory=tmp_path / "whole")
    data = (tmp_path / "whole" / "log.jsonl").read_bytes()
    lines = data.splitlines(keepends=True)
    assert len(lines) == 1 + 12 + 12
    for kept in range(len(lines)):
        folder = tmp_path / f"{kept}"
        folder.mkdir()
        torn = lines[kept][: 7 * kept % (len(lines[kept]) - 1)]
        (folder / "log.jsonl").write_bytes(b"".join(lines[:kept]) + torn)
        resumed = run(directory=folder, resume=True)
        assert as_bytes(resumed) == as_bytes(whole)
        assert (folder / "log.jsonl").read_bytes() == data


def test_the_log_says_what_happened_to_whoever_reads_it(run, tmp_path):
    def failing(h):
        return 1 / 0 if h["n"] == 9 else loss(h) if h["n"] < 8 else float("nan")

    result = run(fn=failing, rounds=20, directory=tmp_path, on_error="inf")
    first, *events = [json.loads(line) for line in (tmp_path / "log.jsonl").open()]
    assert first["metahpo"] == mh.__version__
    asked = {event["asked"]: event["hparams"] for event in events if "asked" in event}
    told = {event["told"]: event for event in events if "told" in event}
    assert sorted(asked) == sorted(told) == list(range(20))
    for number, event in told.items():
        n = asked[number]["n"]
        assert event["loss"] == ("inf" if n == 9 else "nan" if n == 8 else loss(asked[number]))
        assert event.get("failure") == ("ZeroDivisionError('division by zero')" if n == 9 else None)
    resumed = run(rounds=20, directory=tmp_path, resume=True)
    assert resumed.failures == result.failures != []
    assert as_bytes(resumed) == as_bytes(result)


def test_a_log_that_was_changed_is_refused_and_left_alone(run, tmp_path):
    run(directory=tmp_path, rounds=4)
    path = tmp_path / "log.jsonl"
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    for changed in (
        data.replace(b'"loss": ', b'"loss": 1', 1),  # a digit
        b"".join([*lines[:3], *lines[4:]]),  # a line is missing
        b"".join([*lines[:3], *lines[2:]]),  # or there twice
        data[:40] + b"\x00" + data[41:],
    ):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"log.jsonl' is damaged: line \d+ is not as it was"):
            run(directory=tmp_path, rounds=4, resume=True)
        assert path.read_bytes() == changed


def test_a_folder_of_another_run_is_refused(run, tmp_path):
    run(directory=tmp_path, rounds=4, about="mine")
    for options, message in (
        ({"seed": 1}, "of another run: its key is another"),
        ({"about": "yours"}, "of another run: .*mine.*yours"),
        ({"rounds": 3}, "has 4 rounds, more than the 3 asked"),
        ({"resume": False}, "a new run needs an empty folder, but .* holds 'log.jsonl'"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**{"directory": tmp_path, "rounds": 4, "resume": True, "about": "mine"} | options)
    with pytest.raises(ValueError, match=r"no checkpoint of a run in .*, only \['log.jsonl'\]"):
        mh.minimize(loss, SPACE, ONE_BY_ONE, rounds=4, directory=tmp_path, resume=True)
    shutil.rmtree(tmp_path)
    mh.minimize(loss, SPACE, ONE_BY_ONE, rounds=1, directory=tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"no log of a run in .*, only \['round_00000001'\]"):
        run(directory=tmp_path, resume=True)


def test_an_interruption_says_how_to_go_on(tmp_path):
    calls = []

    def fn(h):
        calls.append(h)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return loss(h)

    options = {"rounds": 12, "asynchronous": True, "progress": False, "directory": tmp_path}
    with pytest.raises(mh.run.InterruptedRun, match="after 5 evaluations; resume=True goes on"):
        mh.minimize(fn, SPACE, ONE_BY_ONE, **options)
    resumed = mh.minimize(fn, SPACE, ONE_BY_ONE, resume=True, **options)
    assert len(calls) == 13  # one of them twice
    alone = mh.minimize(loss, SPACE, ONE_BY_ONE, rounds=12, progress=False)
    assert as_bytes(resumed) == as_bytes(alone)  # a single worker keeps the order


def test_a_state_goes_on(run):
    first = run(rounds=5)
    both = run(rounds=7, state=first.state)
    assert both.evaluations == 12
    assert as_bytes(by_hand(ONE_BY_ONE, both.state, rounds=12)) == as_bytes(both)


def test_a_rule_ends_the_run_and_those_under_way_are_told(run, capsys):
    result = run(rounds=None, stop=stopping.when(evaluations=6))
    assert result.stop_reason == StopReason.BUDGET
    assert result.evaluations == len(run.executor.seen) == 8


def test_progress_without_a_number_of_rounds(monkeypatch, capsys):
    mh.minimize(loss, SPACE, ONE_BY_ONE, asynchronous=True, stop=stopping.when(evaluations=6))
    assert "minimize: 6 rounds, lowest loss " in capsys.readouterr().err


def test_what_never_works_ends_when_every_worker_has_tried(run):
    with pytest.raises(ValueError, match="all failed or returned NaN"):
        run(fn=lambda h: float("nan"), workers=5)
    assert len(run.executor.seen) == 5


def test_what_cannot_be_asynchronous_is_refused(run):
    everybody = "asha, differential_evolution, gaussian_process, grid, jade, random, shade, sobol"
    with pytest.raises(ValueError, match=f"cma_es waits for whole rounds.*: {everybody}, tpe"):
        run(strategies.cma_es(SPACE, 4))
    with pytest.raises(ValueError, match="this strategy waits for whole rounds"):
        run(ONE_BY_ONE._replace(init=lambda key: 0, needs=mh.Needs(trainings=False)))
    with pytest.raises(ValueError, match="room for 10 rounds, the run makes 12: .*capacity"):
        run(strategies.tpe(SPACE, 1, capacity=10))
    with pytest.raises(ValueError, match="needs rounds, stop or seconds: this strategy never ends"):
        run(rounds=None)
