"""A full disk, SIGTERM, two processes on one folder, a process of two that dies."""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import _fault_kills as kills
from benchmarks import _fault_runs as runs

SOON = 60.0  # seconds
TIMES = {"full disk": 20, "SIGTERM": 20, "two on one folder": 20, "one of two dies": 6}
NAMES = ("search", "minimize")


class Ended(NamedTuple):
    """How it ended, so many times.

    Attributes:
        times: it was tried; 0 where this machine cannot (a small disk needs to be mounted).
        clear: it ended within a minute with an error that names the reason.
        kept: the run could go on, to the bytes of the run that was never disturbed.
        slowest: seconds from the fault to the end, at most.
        errors: what happened otherwise.
    """

    times: int
    clear: int
    kept: int
    slowest: float
    errors: list[str]


Try = Callable[[Path, random.Random, str, str], tuple[bool, bool, float, str]]


def all_ended(share: float = 1.0) -> dict[str, Ended]:
    """Every kind of ending, one after another."""
    found = {}
    for what, tried in _TRIES.items():
        times = max(1, round(TIMES[what] * share))
        if what == "full disk" and not _mounts():
            times = 0
        draw, results = random.Random(what), []
        for i in range(times):
            with tempfile.TemporaryDirectory() as parent:
                name = NAMES[i % len(NAMES)]
                results.append(tried(Path(parent), draw, name, _whole(name)))
        found[what] = Ended(
            times,
            sum(clear for clear, *_ in results),
            sum(kept for _, kept, *_ in results),
            max((seconds for *_, seconds, _ in results), default=0.0),
            [text for clear, kept, _, text in results if not (clear and kept)],
        )
    return found


_WHOLE: dict[str, tuple[str, float]] = {}


def _whole(name: str) -> str:
    """The digest of an undisturbed run, whose seconds are kept."""
    if name not in _WHOLE:
        with tempfile.TemporaryDirectory() as parent:
            begin = time.monotonic()
            code, text = _wait(_start(name, Path(parent) / "run"), 10 * SOON)
            if code != 0:
                raise RuntimeError(f"an undisturbed run failed: {text}")
            digest = Path(parent, "run.digest").read_text()
            _WHOLE[name] = digest, time.monotonic() - begin
    return _WHOLE[name][0]


def _start(name: str, folder: Path, out: Path | None = None) -> subprocess.Popen[str]:
    out = folder.with_name(folder.name + ".digest") if out is None else out
    arguments = [sys.executable, "-m", "benchmarks._fault_runs", name, str(folder), str(out)]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)


def _wait(process: subprocess.Popen[str], seconds: float) -> tuple[int | None, str]:
    try:
        text = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return None, f"still there after {seconds:.0f} s: {process.communicate()[1]}"
    return process.returncode, text


def _ended(process: subprocess.Popen[str], begin: float) -> tuple[int | None, str, float]:
    _, text = _wait(process, SOON)
    late = time.monotonic() - begin > SOON
    return None if late else process.returncode, text, time.monotonic() - begin


def _goes_on(name: str, folder: Path, expected: str) -> bool:
    process = _start(name, folder)
    _wait(process, 10 * SOON)
    digest = folder.with_name(folder.name + ".digest")
    return process.returncode == 0 and digest.read_text() == expected


def _full_disk(
    parent: Path, draw: random.Random, name: str, expected: str
) -> tuple[bool, bool, float, str]:
    """The disk has room for one to four checkpoints and a piece of the next."""
    with _disk(parent / "disk", draw.randrange(60_000, 240_000)) as resize:
        folder = parent / "disk" / "run"
        begin = time.monotonic()
        code, text, seconds = _ended(_start(name, folder, parent / "out"), begin)
        if code == 0:
            return True, True, 0.0, ""  # there was room
        clear = code is not None and "No space left" in text and "Traceback" in text
        resize(64_000_000)
        return clear, _goes_on(name, folder, expected), seconds, text[-500:]


def _terminated(
    parent: Path, draw: random.Random, name: str, expected: str
) -> tuple[bool, bool, float, str]:
    folder = parent / "run"
    process = _start(name, folder)
    time.sleep(draw.uniform(0.0, _WHOLE[name][1]))
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, text, seconds = _ended(process, begin)
    # A process that has not come to its run yet dies of the signal, as every other does.
    clear = code in (0, -signal.SIGTERM) or (code is not None and "resume=True" in text)
    return clear, _goes_on(name, folder, expected), seconds, f"{code} {text[-500:]}"


def _two_on_one(
    parent: Path, draw: random.Random, name: str, expected: str
) -> tuple[bool, bool, float, str]:
    """The second begins while the first is at work, or it would go on with what is there."""
    folder = parent / "run"
    first = _start(name, folder)
    while first.poll() is None and not (folder / ".claimed").exists():
        time.sleep(0.01)
    begin = time.monotonic()
    second = _start(name, folder, parent / "second.digest")
    first_text = _wait(first, 10 * SOON)[1]
    _, text, seconds = _ended(second, begin)
    refused = "another process is at work in the folder" in text and str(folder) in text
    after = (parent / "second.digest").exists()  # it came when the first was done
    kept = (parent / "run.digest").exists() and (parent / "run.digest").read_text() == expected
    return refused or after, kept, seconds, f"{text[-300:]} {first_text[-300:]}"


def _one_of_two(
    parent: Path, draw: random.Random, name: str, expected: str
) -> tuple[bool, bool, float, str]:
    folder, expected = parent / "run", _expected_of_two()
    first, second = _two(folder)
    while first.poll() is None and not folder.exists():
        time.sleep(0.01)
    time.sleep(draw.uniform(0.0, 0.5) * _WHOLE["two"][1])  # from the run's first moment to its end
    begin = time.monotonic()
    second.kill()
    code, text, seconds = _ended(first, begin)
    clear = code == 0 or (code is not None and "RuntimeError" in text and "resume" in text)
    first, second = _two(folder)
    _wait(second, 10 * SOON), _wait(first, 10 * SOON)
    digest = folder.with_name("run.digest")
    kept = digest.exists() and digest.read_text() == expected
    return clear, kept, seconds, f"{code} {text[-500:]}"


def _expected_of_two() -> str:
    if "two" not in _WHOLE:
        with tempfile.TemporaryDirectory() as parent:
            begin = time.monotonic()
            for process in _two(Path(parent) / "run"):
                _wait(process, 10 * SOON)
            digest = Path(parent, "run.digest").read_text()
            _WHOLE["two"] = digest, time.monotonic() - begin
    return _WHOLE["two"][0]


def _two(folder: Path) -> list[subprocess.Popen[str]]:
    """Both processes of a run over two devices."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks._fault_runs", "two", str(folder)]
    out = str(folder.with_name(folder.name + ".digest"))
    return [
        subprocess.Popen([*command, out, str(rank), str(port)], stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]


@contextmanager
def _disk(where: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A disk of so many bytes, and how to make it larger."""

    def mount(size: int, *options: str) -> None:
        option = ",".join(["size=" + str(size), *options])
        subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(where)], check=True)

    where.mkdir()
    mount(size)
    try:
        yield lambda size: mount(size, "remount")
    finally:
        subprocess.run(["umount", str(where)], check=True)


def _mounts() -> bool:
    """Whether this process may mount a small disk."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as parent:
        try:
            with _disk(Path(parent) / "disk", 100_000):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


_TRIES: dict[str, Try] = {
    "full disk": _full_disk,
    "SIGTERM": _terminated,
    "two on one folder": _two_on_one,
    "one of two dies": _one_of_two,
}
assert _TRIES.keys() == TIMES.keys() and kills.KILLS.keys() >= runs.RUNS.keys()
