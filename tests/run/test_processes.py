"""Two processes that run one search give the history of one, and a death among them is told."""

import atexit
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from metahpo.run import checkpoint, processes

pytestmark = pytest.mark.versions

pytest.importorskip("orbax.checkpoint")

HERE = Path(__file__).parent


def together(folder, devices, *more):
    """Return codes, outputs and errors of both processes, each with so many devices."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    env = os.environ | {
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(HERE.parents[1]),
    }
    script = str(HERE / "two_processes.py")
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(port), str(folder / str(rank)), *more],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        texts = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def test_a_loss_of_which_xla_tells_by_a_value_error_is_told_too(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(atexit, "register", lambda fn: None)
    told = "lost the others.*resume=True.*'here'.*closed by peer"
    with pytest.raises(RuntimeError, match=told), processes.told_of_loss("here"):
        raise ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer")
    with pytest.raises(ValueError, match="of the user's"), processes.told_of_loss("here"):
        raise ValueError("a mistake of the user's")


@pytest.mark.slow
def test_an_error_in_one_process_ends_both_soon(tmp_path):
    start = time.monotonic()
    (code, _, err), (other, _, other_err) = together(tmp_path, 1, "fail")
    assert time.monotonic() - start < 120  # of which the error takes a moment; it was 300 s
    assert (code, other) == (1, 1), err + other_err
    assert "ValueError: on_chunk of process 0 failed" in err
    assert "Traceback" in other_err


@pytest.mark.slow
def test_two_processes_give_the_history_of_one_and_outlive_a_death(tmp_path):
    (code, _, err), (dead, _, dead_err) = together(tmp_path, 1, "die")
    assert (code, dead) == (1, 9), err + dead_err
    assert "RuntimeError: process 0 of 2 lost the others" in err
    assert f"resume=True to go on from '{tmp_path / '0'}'" in err
    done = checkpoint.rounds_done(tmp_path / "0")
    assert 3 <= done < 6
    assert not (tmp_path / "1").exists()  # process 0 alone writes

    found = together(tmp_path, 2)  # six members on four devices: two are padding
    for code, out, err in found:
        assert code == 0, err
        assert json.loads(out.splitlines()[-1]) == {
            "devices": 4,
            "copied": True,
            "search": True,
            "drive": True,
        }
    assert "run: 6/6 rounds" in found[0][2]  # process 0 alone shows progress
    assert "rounds, lowest loss" not in found[1][2]
    assert not (tmp_path / "1").exists()
