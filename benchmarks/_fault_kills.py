"""Processes that are killed at random moments, and resumed until they come to an end."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context, set_forkserver_preload
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import _fault_runs
from metahpo import report

MOST_SECONDS = 120.0  # a process that takes longer hangs
COMMAND = "python -m metahpo compare"
KILLS = {
    "search": 300,
    "meta_train": 250,
    "minimize": 150,
    "minimize, 3 threads": 100,
    "minimize, 2 processes": 100,
    COMMAND: 100,
}


class Counted(NamedTuple):
    """What happened to the runs of one kind.

    Attributes:
        kills: processes that were killed.
        runs: that came to their end.
        same: runs whose history has the bytes of that of a run which was never killed.
        errors: what went wrong otherwise, in words.
    """

    kills: int
    runs: int
    same: int
    errors: list[str]


class Process(NamedTuple):
    """A process at work in a folder, whatever started it."""

    wait: Callable[[float], int | None]  # the exit code, ``None`` while it lives
    pid: int


Start = Callable[[Path], Process]
Result = Callable[[Path], str]


def counted(name: str, kills: int, seed: int = 0) -> Counted:
    """Kills processes of one kind at random moments until so many are dead."""
    start, result = (_command, _command_result) if name == COMMAND else (_forked(name), _digest)
    draw = random.Random(f"{name} {seed}")
    killed, runs, same, errors = 0, 0, 0, []
    with tempfile.TemporaryDirectory() as parent:
        for whole in (Path(parent) / "cold", Path(parent) / "warm"):
            begin = time.monotonic()
            _ended(start(whole), MOST_SECONDS)
            duration, expected = time.monotonic() - begin, result(whole)  # nothing to compile
        while killed < kills:
            folder = Path(parent) / f"run_{runs}"
            while True:
                process = start(folder)
                code = process.wait(draw.uniform(0.0, duration) if killed < kills else MOST_SECONDS)
                if code is not None:
                    break
                _kill(process.pid)
                code = process.wait(MOST_SECONDS)
                if killed == kills:
                    errors.append(f"still at work after {MOST_SECONDS:.0f} s")
                    break
                killed += 1
            runs += 1
            if code != 0:
                errors.append(f"run {runs - 1} ended with the code {code}")
            else:
                same += result(folder) == expected
            shutil.rmtree(folder, ignore_errors=True)
    return Counted(killed, runs, same, errors)


def all_counted(cache: str, share: float = 1.0) -> dict[str, Counted]:
    """All kinds, two at a time; ``cache`` keeps the compiled programs."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Most of a small run is compilation, and most kills are to meet it at work.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    set_forkserver_preload(["benchmarks._fault_runs", "orbax.checkpoint"])
    with ThreadPoolExecutor(2) as pool:
        found = {
            name: pool.submit(counted, name, max(1, round(kills * share)))
            for name, kills in KILLS.items()
        }
        return {name: future.result() for name, future in found.items()}


def _forked(name: str) -> Start:
    """From a server that has imported everything and computed nothing."""
    context = get_context("forkserver")

    def start(folder: Path) -> Process:
        process = context.Process(
            target=_fault_runs.work, args=(name, str(folder), str(folder) + ".digest")
        )
        process.start()
        assert process.pid is not None

        def wait(seconds: float) -> int | None:
            process.join(seconds)
            return process.exitcode

        return Process(wait, process.pid)

    return start


def _command(folder: Path) -> Process:
    arguments = ["benchmarks._fault_runs:comparison", "--out", str(folder), "--resume"]
    process = subprocess.Popen(
        [sys.executable, "-m", *COMMAND.split()[2:], *arguments],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def wait(seconds: float) -> int | None:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    return Process(wait, process.pid)


def _kill(pid: int) -> None:
    """A process and all that it started; one that was just born has no group of its own yet."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _ended(process: Process, seconds: float) -> None:
    if (code := process.wait(seconds)) != 0:
        raise RuntimeError(f"an undisturbed run ended with the code {code}")


def _digest(folder: Path) -> str:
    return Path(str(folder) + ".digest").read_text()


def _command_result(folder: Path) -> str:
    """What the comparison found, without the seconds."""
    return str(_timeless(report.load_json(folder / "results.json")))


def _timeless(found: Any) -> Any:
    if isinstance(found, dict):
        return {k: _timeless(v) for k, v in found.items() if "seconds" not in k}
    return [_timeless(part) for part in found] if isinstance(found, list) else found
