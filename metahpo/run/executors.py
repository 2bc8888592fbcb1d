"""Where a function is called: here, in threads, or wherever an executor has its workers."""

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import Any

from metahpo import checks
from metahpo.run.candidates import Outcome, sent

MakeExecutor = Callable[[], Executor]


class Here:
    """Calls at once, in this thread.

    Attributes:
        most: calls at once.
    """

    most = 1

    def submit(self, call: Callable[..., Outcome], *args: Any) -> Future[Outcome]:
        """The outcome, as a future that is done."""
        future: Future[Outcome] = Future()
        future.set_result(call(*args))
        return future

    def renew(self) -> None:
        """Goes on after a worker has died."""

    def close(self) -> None:
        """Lets go of the workers, once they are done with what they have begun."""


class Threads(Here):
    """Calls in so many threads."""

    def __init__(self, most: int) -> None:
        self.most, self._pool = most, ThreadPoolExecutor(most)

    def submit(self, call: Callable[..., Outcome], *args: Any) -> Future[Outcome]:
        """The outcome to come."""
        return self._pool.submit(call, *args)

    def close(self) -> None:
        """Waits for what has begun."""
        self._pool.shutdown(cancel_futures=True)


class Given(Here):
    """Calls in an executor of the user's, who also closes it."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.most = getattr(executor, "_max_workers", None) or os.cpu_count() or 1

    def submit(self, call: Callable[..., Outcome], *args: Any) -> Future[Outcome]:
        """The outcome to come."""
        return self._executor.submit(sent, call, *args)

    def renew(self) -> None:
        """Says what could be renewed."""
        raise BrokenExecutor(
            "a worker died and the executor is of no more use; with a function that makes one, "
            "such as workers=lambda: ProcessPoolExecutor(4), a run goes on in a new one"
        )


class Made(Given):
    """Calls in an executor that is made anew when it breaks."""

    def __init__(self, make: MakeExecutor) -> None:
        self._make = make
        self._begin()

    def renew(self) -> None:
        """Another executor."""
        self.close()
        self._begin()

    def _begin(self) -> None:
        executor = self._make()
        if not isinstance(executor, Executor):
            raise ValueError(
                "workers must be a number, an executor, or a function that makes an executor, got "
                f"one that makes {executor!r}"
            )
        super().__init__(executor)

    def close(self) -> None:
        """Waits for what has begun."""
        self._executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def opened(workers: int | Executor | MakeExecutor) -> Iterator[Here]:
    """Whoever calls: a number of threads, an executor, or one that a function makes."""
    found = _made(workers)
    try:
        yield found
    finally:
        found.close()


def _made(workers: int | Executor | MakeExecutor) -> Here:
    if isinstance(workers, Executor):
        return Given(workers)
    if callable(workers):
        return Made(workers)
    most = checks.whole("workers", workers)
    return Here() if most == 1 else Threads(most)


def check_sendable(fn: Callable[..., Any], error: BaseException) -> None:
    """Raises ``ValueError`` if an error came of a function that cannot be pickled."""
    try:
        pickle.dumps(fn)
    except Exception:
        name = getattr(fn, "__qualname__", repr(fn))
        raise ValueError(
            f"fn must be a function that other processes can be sent, got {name}, which cannot be "
            f"pickled ({error}): define it at the top level of a module"
        ) from error
