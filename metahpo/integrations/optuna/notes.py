"""What a sampler notes on a trial, so that every process can tell how the study came about."""

import os
import socket
from typing import NamedTuple

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

KEY = "metahpo"
"""The trial's system attribute that holds the note."""
MOST = 200
"""Candidates that a note may list: databases keep 2,045 characters."""


class Note(NamedTuple):
    """Which candidate a trial evaluates, and how it came to be asked for.

    Attributes:
        run: the mark of space, strategy and seed.
        round: the strategy's round that the trial saw; 0 is the first.
        candidate: the number of the candidate, -1 for a trial that had to do without one.
        opened: whether the trial asked the strategy for this round.
        pending: the candidates whose losses were not known then.
        failed: the candidates that were given up then.
        worker: who sampled it, as ``worker`` says.
    """

    run: str
    round: int
    candidate: int
    opened: bool
    pending: list[int]
    failed: list[int]
    worker: str


def write(storage: BaseStorage, trial: FrozenTrial, note: Note) -> None:
    """Notes it on the trial."""
    storage.set_trial_system_attr(trial._trial_id, KEY, list(note))


def read(trial: FrozenTrial) -> Note | None:
    """The note of a trial, ``None`` if nobody noted anything."""
    found = trial.system_attrs.get(KEY)
    return None if found is None else Note(*found)


def worker() -> str:
    """This process: host, namespace of process ids, id."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # of a container, which may share the host
    except OSError:
        namespace = ""
    return f"{socket.gethostname()} {namespace} {os.getpid()}"


def dead(other: str) -> bool:
    """Whether a worker, as ``worker`` said, was a process of this machine that has ended."""
    where, pid = other.rsplit(" ", 1)
    if where != worker().rsplit(" ", 1)[0] or os.name != "posix":
        return False
    try:
        os.kill(int(pid), 0)  # asks, and sends nothing
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
