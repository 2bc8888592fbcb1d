"""How far a run is, told on the standard error stream."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from metahpo._extras import require

SECONDS_BETWEEN_LINES = 10.0


class Report:
    """Shows nothing; its subclasses show something."""

    def __call__(
        self,
        rounds_done: int,
        number: float,
        over: bool = False,
        kind: str = "lowest loss",
        note: str = "",
    ) -> None:
        """Shows the rounds done and a number of some kind, and a note, if there is one.

        ``over``: the run ended before its last round.
        """

    @contextmanager
    def compiling(self, really: bool = True) -> Iterator[None]:
        """What happens within is shown as the compilation of the run, if it really is one."""
        yield


@contextmanager
def reporter(enabled: bool, name: str, rounds: int | None, done: int = 0) -> Iterator[Report]:
    """Gives a ``Report``, a function that shows progress.

    ``rounds`` is ``None`` where nobody knows how many there will be.

    The time that is shown counts from here, compilation included.

    On a terminal this is a bar where ``rich`` is installed (the extra ``cli``); otherwise a plain
    line, at most one in ten seconds and one at the end, so that log files stay short.
    """
    if not enabled:
        yield Report()
    elif sys.stderr.isatty() and _has_rich():
        with _bar(name, rounds, done) as report:
            yield report
    else:
        yield _Lines(name, rounds)


def _has_rich() -> bool:
    try:
        require("rich.progress", "cli")
    except ImportError:
        return False
    return True


@contextmanager
def _bar(name: str, rounds: int | None, done: int) -> Iterator[Report]:
    from rich import progress
    from rich.console import Console
    from rich.markup import escape

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("rounds  {task.fields[value]}"),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(bar, bar.add_task(escape(name), total=rounds, completed=done, value=""))


class _Bar(Report):
    def __init__(self, bar: Any, task: Any) -> None:
        self.bar, self.task = bar, task

    def __call__(
        self,
        rounds_done: int,
        number: float,
        over: bool = False,
        kind: str = "lowest loss",
        note: str = "",
    ) -> None:
        value = f"{kind} {number:.6g}{note and f', {note}'}"
        self.bar.update(self.task, completed=rounds_done, value=value)

    @contextmanager
    def compiling(self, really: bool = True) -> Iterator[None]:
        if really:
            self.bar.update(self.task, value="compiling", refresh=True)
        yield


class _Lines(Report):
    def __init__(self, name: str, rounds: int | None) -> None:
        self.name, self.rounds = name, rounds
        self.start = self.last = time.monotonic()
        self.compiled = ""

    def __call__(
        self,
        rounds_done: int,
        number: float,
        over: bool = False,
        kind: str = "lowest loss",
        note: str = "",
    ) -> None:
        now = time.monotonic()
        over = over or rounds_done == self.rounds
        if not over and now - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last = now
        of_all = "" if self.rounds is None else f"/{self.rounds}"
        self._line(
            f"{rounds_done}{of_all} rounds, {kind} {number:.6g}, {note and f'{note}, '}"
            f"{now - self.start:.1f} s{self.compiled}"
        )

    @contextmanager
    def compiling(self, really: bool = True) -> Iterator[None]:
        if not really:
            yield
            return
        self._line("compiling")
        start = time.monotonic()
        yield
        self.compiled = f", {time.monotonic() - start:.1f} s of them compiling"

    def _line(self, text: str) -> None:
        print(f"{self.name}: {text}", file=sys.stderr, flush=True)
