"""An executor whose calls end one by one in an order that is known, and may break."""

import random
from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures._base import DoneAndNotDoneFutures

from metahpo.run import workers


class Killed(BaseException):
    """What a test sees of a process that is killed."""


class Scripted(Executor):
    """Whenever somebody waits one call ends; which one depends on who is under way alone.

    Attributes:
        seen: the hyperparameters of the calls that ended, in order.
        most: calls that were under way at once.
    """

    def __init__(self, most, breaks=lambda h: False, kill_after=None):
        self._max_workers, self.most = most, 0
        self._breaks, self._left = breaks, kill_after
        self._open, self.seen, self.broken = [], [], False

    def submit(self, fn, /, *args):
        if self.broken:
            raise BrokenExecutor("of no more use")
        self._open.append((Future(), fn, args))
        self.most = max(self.most, len(self._open))
        return self._open[-1][0]

    def end_one(self):
        if self._left is not None:
            if not self._left:
                raise Killed
            self._left -= 1
        if not self._open:
            return
        chosen = min(self._open, key=lambda each: random.Random(repr(each[2][2])).random())
        future, fn, args = chosen
        if self._breaks(args[2]):
            self.broken = True
            for other, *_ in self._open:
                other.set_exception(BrokenExecutor("a process died"))
            self._open = []
            return
        self._open.remove(chosen)
        self.seen.append(args[2])
        future.set_result(fn(*args))


def script(monkeypatch, executors):
    """Whoever waits lets the newest of some executors end a call."""

    def wait(running, return_when=None):
        if not any(future.done() for future in running):
            executors[-1].end_one()
        done = {future for future in running if future.done()}
        return DoneAndNotDoneFutures(done, set(running) - done)

    monkeypatch.setattr(workers, "wait", wait)
