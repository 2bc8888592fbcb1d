"""How far a run is, told on the standard error stream."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from metahpo._extras import require

Report = Callable[..., None]  # (rounds done, a value, over=False)
SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def reporter(
    enabled: bool, name: str, rounds: int, done: int = 0, value: str = "lowest loss"
) -> Iterator[Report]:
    """Gives a function ``(rounds done, value, over)`` that shows a run's progress.

    ``value`` names the number that is shown beside, by default the lowest loss so far; ``over``,
    false by default, says that a run has ended before its last round.

    On a terminal this is a bar where ``rich`` is installed (the extra ``cli``); otherwise a plain
    line, at most one in ten seconds and one at the end, so that log files stay short.
    """
    if not enabled:
        yield lambda rounds_done, number, over=False: None
    elif sys.stderr.isatty() and _has_rich():
        with _bar(name, rounds, done, value) as report:
            yield report
    else:
        yield _lines(name, rounds, value)


def _has_rich() -> bool:
    try:
        require("rich.progress", "cli")
    except ImportError:
        return False
    return True


@contextmanager
def _bar(name: str, rounds: int, done: int, value: str) -> Iterator[Report]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("rounds  {task.fields[value]}"),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=rounds, completed=done, value="")
        yield lambda rounds_done, number, over=False: bar.update(
            task, completed=rounds_done, value=f"{value} {number:.6g}"
        )


def _lines(name: str, rounds: int, value: str) -> Report:
    start = last = time.monotonic()

    def report(rounds_done: int, number: float, over: bool = False) -> None:
        nonlocal last
        now = time.monotonic()
        over = over or rounds_done >= rounds
        if not over and now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        print(
            f"{name}: {rounds_done}/{rounds} rounds, {value} {number:.6g}, {now - start:.1f} s",
            file=sys.stderr,
            flush=True,
        )

    return report
