"""Candidates under way: who is evaluated, who once more, and whom a dying worker took along."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Any

from metahpo.run.ask_tell import Candidate
from metahpo.run.candidates import Outcome
from metahpo.run.executors import Here, check_sendable

Call = tuple[Callable[..., Outcome], Callable[..., Any], *tuple[Any, ...]]


class WorkerDiedError(RuntimeError):
    """A worker died while it evaluated a candidate."""


class Workers:
    """Evaluates candidates, each until it has an outcome.

    When a process of a pool dies, the pool is of no more use and does not say whose candidate it
    was.  So all that were under way are run again, one at a time: who then breaks the pool alone
    is the one.

    Args:
        executor: where they are called.
        call: what is to be called for a candidate: a function, ``fn`` and its arguments.
        retries: how often a candidate is run again that failed.
    """

    def __init__(self, executor: Here, call: Callable[[Candidate], Call], retries: int) -> None:
        self._executor, self._call, self._retries = executor, call, retries
        self._running: dict[Future[Outcome], Candidate] = {}
        self._waiting: list[Candidate] = []
        self._alone: list[Candidate] = []  # to be run while nobody else is
        self._failed: Counter[int] = Counter()

    @property
    def busy(self) -> bool:
        """Whether anybody is under way."""
        return bool(self._running or self._waiting or self._alone)

    @property
    def free(self) -> bool:
        """Whether one more can begin."""
        under_way = len(self._running) + len(self._waiting)
        return under_way < self._executor.most and not self._alone

    def start(self, candidate: Candidate) -> None:
        """Begins with one more."""
        self._waiting.append(candidate)
        self._fill()

    def finished(self) -> list[tuple[Candidate, Outcome]]:
        """Waits, and gives those who have come to an end; perhaps nobody, as some go on.

        Raises:
            ValueError: if the function cannot be sent to other processes.
            BrokenExecutor: if a worker died and there is no other executor.
        """
        self._fill()
        done = wait(self._running, return_when=FIRST_COMPLETED).done
        if any(_broke(future) for future in done):
            done = wait(self._running).done
        found: list[tuple[Candidate, Outcome]] = []
        lost: list[Candidate] = []
        for future in sorted(done, key=lambda future: self._running[future].number):
            candidate = self._running.pop(future)
            if _broke(future):
                lost.append(candidate)
                continue
            try:
                found.append((candidate, future.result()))
            except Exception as error:
                check_sendable(self._call(candidate)[1], error)
                found.append((candidate, Outcome(error)))
        if len(lost) == 1:
            why = "it was killed, ran out of memory, crashed, or could not import the function"
            found.append((lost.pop(), Outcome(WorkerDiedError(why))))
        self._alone += lost
        return [each for each in found if self._ends(*each)]

    def _ends(self, candidate: Candidate, outcome: Outcome) -> bool:
        """Whether a candidate has come to its end; else it goes on once more."""
        if not isinstance(outcome.loss, Exception):
            return True
        self._failed[candidate.number] += 1
        if self._failed[candidate.number] > self._retries:
            return True
        died = isinstance(outcome.loss, WorkerDiedError)
        (self._alone if died else self._waiting).append(candidate)
        return False

    def _fill(self) -> None:
        if self._alone:
            if not self._running:
                self._submit(self._alone)
            return
        while self._waiting and len(self._running) < self._executor.most:
            if not self._submit(self._waiting):
                return

    def _submit(self, line: list[Candidate]) -> bool:
        """Hands the first of a line to a worker, unless the executor is found broken."""
        call = self._call(line[0])
        try:
            future = self._executor.submit(*call)
        except BrokenExecutor:
            if self._running:  # they tell
                return False
            self._executor.renew()
            future = self._executor.submit(*call)
        self._running[future] = line.pop(0)
        return True


def _broke(future: Future[Outcome]) -> bool:
    return not future.cancelled() and isinstance(future.exception(), BrokenExecutor)
