"""Ctrl-C at any moment says what is saved and how to go on."""

import os
import signal
import threading

import jax
import pytest
from walking import SPACE, as_bytes, loss, run, walker

import metahpo as mh
from metahpo.run import InterruptedRun, checkpoint, host
from metahpo.run.interrupts import told_of_termination

pytest.importorskip("orbax.checkpoint")


def loop():
    problem = mh.problems.function(lambda h: h["x"] ** 2 + h["n"] + h["kind"])
    strategy = mh.strategies.random(SPACE, 8)
    return mh.run.search_loop(problem, SPACE, strategy, rounds=6, steps=1)


def drive(directory, **options):
    return mh.run.drive(
        loop(), jax.random.key(0), chunk=2, directory=directory, progress=False, **options
    )


def interrupted_at(monkeypatch, owner, name, call):
    """The so-many-th call of a function is interrupted."""
    real, calls = getattr(owner, name), []

    def fn(*args, **kwargs):
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, fn)


@pytest.mark.parametrize(
    ("owner", "name"), [(host, "_ended"), (checkpoint, "save"), (host, "health")]
)
def test_a_drive_says_how_it_goes_on(tmp_path, monkeypatch, owner, name):
    with monkeypatch.context() as patch:
        interrupted_at(patch, owner, name, 2)
        with pytest.raises(InterruptedRun, match=f"resume=True goes on from what '{tmp_path}'"):
            drive(tmp_path)
    assert as_bytes(drive(tmp_path, resume=True)) == as_bytes(drive(None))


def test_a_drive_without_a_folder_says_that_it_needs_one(monkeypatch):
    interrupted_at(monkeypatch, host, "_ended", 2)
    with pytest.raises(InterruptedRun, match=r"with directory=\.\.\. can be resumed"):
        drive(None)


def test_minimize_holds_its_result_when_it_is_interrupted_while_saving(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupted_at(patch, checkpoint, "save", 2)
        with pytest.raises(InterruptedRun, match="after 8 evaluations; resume=True") as caught:
            run(directory=tmp_path)
    assert caught.value.result.evaluations == 8
    assert as_bytes(run(directory=tmp_path, resume=True)) == as_bytes(run())


def test_minimize_holds_its_result_when_it_is_interrupted_while_telling():
    def tell(*args):
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRun, match="after 4 evaluations") as caught:
        run(strategy=walker()._replace(tell=tell))
    assert caught.value.result.evaluations == 4


def test_minimize_may_be_interrupted_before_anything_is_known(tmp_path, monkeypatch):
    def ask(*args):
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRun, match="after 0 evaluations") as caught:
        run(strategy=walker()._replace(ask=ask))
    assert caught.value.result is None
    run(lambda h: loss(h), directory=tmp_path, rounds=2)
    interrupted_at(monkeypatch, checkpoint, "restore", 1)
    with pytest.raises(InterruptedRun, match="resume=True goes on"):
        run(directory=tmp_path, rounds=2, resume=True)


def terminate(*args):
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_terminated_minimize_has_saved_every_evaluation(tmp_path):
    calls = []

    def fn(h):
        calls.append(h)
        if len(calls) == 6:
            terminate()
        return loss(h)

    with pytest.raises(InterruptedRun, match="after 5 evaluations; resume=True"):
        run(fn, directory=tmp_path)
    assert as_bytes(run(fn, directory=tmp_path, resume=True)) == as_bytes(run())
    assert len(calls) == 21  # one of them twice
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_terminated_drive_says_how_it_goes_on(tmp_path):
    with pytest.raises(InterruptedRun, match="resume=True goes on"):
        drive(tmp_path, on_chunk=terminate)
    assert as_bytes(drive(tmp_path, resume=True)) == as_bytes(drive(None))


def test_a_handler_of_ones_own_stays(monkeypatch):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *args: seen.append(args))
    try:
        run(lambda h: terminate() or loss(h), rounds=1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(seen) == 4


def test_a_run_in_another_thread_leaves_signals_alone():
    found = []
    thread = threading.Thread(target=lambda: found.append(run(rounds=1)))
    thread.start()
    thread.join()
    assert found[0].evaluations == 4


@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_process_that_was_forked_within_is_terminated_in_silence():
    with told_of_termination():
        child = os.fork()
        if not child:
            try:
                terminate()
            finally:
                os._exit(3)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
