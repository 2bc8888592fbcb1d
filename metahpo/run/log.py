"""A log of what was asked and told, a line each, so that a killed run has all that it was told.

The first line says what run this is, every further one what happened::

    {"asked": 3, "hparams": {"rate": 0.01}, "unit": [0.5], "check": "..."}
    {"told": 3, "loss": 0.25, "steps": 1, "check": "..."}

A line is written in one piece before it counts.  The last one may be torn, and is then forgotten;
``check`` is a digest of the line and all before it, so that nothing else is missing or changed.
"""

import errno
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from metahpo.run import checkpoint, folders
from metahpo.run.records import MinimizeState

NAME = "log.jsonl"


def prepare(directory: str | os.PathLike[str], resume: bool) -> Path:
    """Makes a folder ready for the log of a run; see ``folders.prepared``."""
    return folders.prepared(directory, resume, "log", lambda name: name == NAME)


class Log:
    """The log in a folder, read and then written on.

    Attributes:
        path: of the file.
        found: what it held, ``None`` where it is new.

    Raises:
        ValueError: if it is damaged or belongs to another run; nothing is changed then.
    """

    def __init__(self, folder: Path, mark: checkpoint.Fingerprint) -> None:
        self.path = folder / NAME
        events, size, self._check = _events(self.path) if self.path.exists() else ([], 0, "")
        if events:
            run = events[0].get("run", {})
            checkpoint.check_same_run(f"the log {str(self.path)!r}", run, mark)
        self.found = _state(events[1:]) if events[1:] else None
        if self.path.exists():
            os.truncate(self.path, size)
        if not events:
            version = sys.modules["metahpo"].__version__  # an import would be an arrow upwards
            self._write({"metahpo": version, "run": mark})

    def asked(self, number: int, hparams: Any, unit: np.ndarray) -> None:
        """A candidate was asked for."""
        self._write({"asked": number, "hparams": hparams, "unit": unit.tolist()})

    def told(self, number: int, loss: float, steps: int, failure: str | None) -> None:
        """Its loss, or what failed, was told."""
        # JSON has no numbers that are not finite.
        shown = loss if np.isfinite(loss) else str(loss)
        event = {"told": number, "loss": shown, "steps": steps}
        self._write(event if failure is None else event | {"failure": failure})

    def _write(self, event: dict[str, Any]) -> None:
        line = json.dumps(event, skipkeys=True, default=_plain)
        check = _digest(self._check, json.loads(line))
        line = f'{line[:-1]}, "check": "{check}"}}\n'
        with self.path.open("ab", buffering=0) as file:
            if file.write(line.encode()) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._check = check


def read(path: Path) -> MinimizeState | None:
    """What a log holds, ``None`` for nothing yet; the file stays as it is.

    Raises:
        ValueError: if it is damaged.
    """
    events, _, _ = _events(path)
    return _state(events[1:]) if events[1:] else None


def _events(path: Path) -> tuple[list[dict[str, Any]], int, str]:
    """All whole lines, the bytes that they take, and the digest of the last."""
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    events, digest = [], ""
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            check = event.pop("check")
            digest = _digest(digest, event)
            if check != digest:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError(
                f"the log {str(path)!r} is damaged: line {number} is not as it was written; it "
                "was left as it is (cut that line and all behind it off to go on from there)"
            ) from None
        events.append(event)
    return events, sum(map(len, lines)), digest


def _state(events: list[dict[str, Any]]) -> MinimizeState:
    units = {event["asked"]: event["unit"] for event in events if "asked" in event}
    told = ["told" in event for event in events]
    numbers = [event["told"] if "told" in event else event["asked"] for event in events]
    return MinimizeState(
        np.where(told, numbers, np.invert(numbers)),
        np.array([float(event.get("loss", 0.0)) for event in events]),
        np.array([event.get("steps", 0) for event in events], np.int32),
        np.array([units[number] for number in numbers]),
        tuple((event["told"], event["failure"]) for event in events if "failure" in event),
    )


def _digest(before: str, event: dict[str, Any]) -> str:
    return hashlib.sha256((before + json.dumps(event, sort_keys=True)).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)
