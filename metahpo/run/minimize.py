"""Minimising any Python function with any strategy, from the host."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Literal

from metahpo import checks
from metahpo import space as spaces
from metahpo._files import claimed
from metahpo.base import HParams, Key, Strategy
from metahpo.run import checkpoint
from metahpo.run.ask_tell import AskTell, Candidate
from metahpo.run.candidates import called
from metahpo.run.health import warn_of_nothing
from metahpo.run.interrupts import told_of_termination
from metahpo.run.progress import reporter
from metahpo.run.records import EvaluationError, InterruptedRun, MinimizeResult, MinimizeState
from metahpo.stopping import Stopping


def minimize(
    fn: Callable[[HParams], float],
    space: spaces.Space,
    strategy: Strategy,
    *,
    rounds: int,
    key: Key | None = None,
    seed: int | None = None,
    stop: Stopping | None = None,
    state: MinimizeState | None = None,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    on_error: Literal["raise", "inf"] = "raise",
    workers: int | Executor = 1,
    seconds: float | None = None,
    about: str = "",
) -> MinimizeResult:
    """Minimises a Python function; it is called with Python values and is never traced.

    A function that JAX can trace is better off in ``search``, which compiles the whole run.  The
    strategy sees the same keys in both, so it makes the same proposals for the same losses.

    Numbers are of double precision: the function gets values within their bounds, its losses are
    kept as it returns them, and rules of ``stop`` see those.  A strategy that works in single
    precision is told rounded losses; where rounding would hide which of two is lower (a large
    offset, tiny or huge values), it is told others in the same order, nearly to scale.

    Args:
        fn: ``(hparams) -> loss``; ``hparams`` has the structure of ``space``, with floats, ints and
            the values of choices.  An infinite loss is a candidate that breaks a constraint.
        space: the search space.
        strategy: proposes a population of candidates a round; one that trains from scratch and
            needs no gradient.  The function is not called for a slot with budget 0.
        rounds: rounds, at least 1.
        key: the only source of randomness; ``jax.random.key(0)`` without one and without ``seed``.
        seed: makes the key, in place of ``key``.
        stop: ends the run before its last round, as in ``search``.
        state: goes on from an earlier result's ``state``, with ``rounds`` more.  Key and strategy
            must be the same; ``stop`` may be another and counts from the first round.  The result
            is that of both calls, as if they had been one.
        directory: a folder for a checkpoint after each round, as in ``drive``, and when the run
            breaks off within one.
        resume: goes on from the newest checkpoint there, with the next candidate.  The function
            must be the same; ``rounds``, counted from the first, may be more, and ``stop`` another.
        progress: whether to show progress on the standard error stream.
        on_error: what it means if ``fn`` raises an exception or returns something else than a real
            scalar: ``"raise"`` ends the run with an ``EvaluationError`` that names the candidate,
            ``"inf"`` counts as an infinite loss; the message is kept.
        workers: how many candidates of a round are evaluated at once: a number of threads, or an
            executor of ``concurrent.futures`` (of processes, of a cluster).  The result is the same
            for every number, as long as ``fn`` depends on its argument alone.
        seconds: begins no evaluation after so much time, and returns what is known by then.
        about: what else must be the same for a checkpoint to fit, in words of your own.

    Returns:
        A ``MinimizeResult``.

    Raises:
        ValueError: for zero rounds, a space that is not one, a strategy that needs gradients or
            goes on from training states, a state that key and strategy do not lead to, or when all
            of the first round fail or are NaN; and for ``directory`` as in ``drive``.
        EvaluationError: if a call fails and ``on_error`` is ``"raise"``; a ``RuntimeError``.
        InterruptedRun: for a ``KeyboardInterrupt`` at any moment, which it is, too, or SIGTERM.
            Both hold what was evaluated so far as ``result``, and ``directory`` has it.

    Warns:
        UserWarning: if no loss was finite.

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Int(0, 3), "kind": mh.Choice(("round", "square"))}
        >>> result = mh.minimize(
        ...     lambda h: h["x"] + (h["kind"] == "square"), space,
        ...     mh.strategies.random(space, population=16), rounds=4, progress=False,
        ... )
        >>> result.best_loss, result.best_hparams
        (0.0, {'kind': 'round', 'x': 0})
    """
    checks.function("fn", fn, "(hparams) -> loss", None)
    checks.one_of("on_error", on_error, ("raise", "inf"))
    if resume and directory is None:
        raise ValueError("resume=True needs the directory whose run goes on, got directory=None")
    if resume and state is not None:
        raise ValueError("a run goes on from its state or from its directory, got both")
    tuner = AskTell(space, strategy, key=key, seed=seed, rounds=rounds, stop=stop, state=state)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    folder = None if directory is None else checkpoint.prepare(directory, resume)
    running: dict[Future[float | Exception], Candidate] = {}
    broken = 0  # calls that failed or returned NaN
    with (
        contextlib.nullcontext() if folder is None else claimed(folder),
        reporter(progress, "minimize", tuner.limit or rounds, tuner.rounds) as report,
        _pool(workers) as (submit, most),
        told_of_termination(),
    ):
        try:
            if folder is not None:
                tuner.restore(folder, about)
        except KeyboardInterrupt as error:
            raise InterruptedRun("the run was interrupted", folder) from error
        try:
            while not tuner.over:
                # A round is told as a whole, so that workers change nothing.
                while (
                    (tuner.queued or not running)
                    and tuner.ready
                    and len(running) < most
                    and time.monotonic() < deadline
                ):
                    candidate = tuner.ask()
                    running[submit(fn, candidate.hparams)] = candidate
                if not running:
                    break  # the time is over
                finished = wait(running, return_when=FIRST_COMPLETED).done
                for future in sorted(finished, key=lambda future: running[future].number):
                    candidate, loss = running.pop(future), future.result()
                    if isinstance(loss, Exception) and on_error == "raise":
                        failure = tuner.failure(candidate.number, loss)
                        raise EvaluationError(failure, tuner.result()) from loss
                    before = tuner.rounds
                    tuner.tell(candidate.number, loss)
                    broken += isinstance(loss, Exception) or math.isnan(loss)
                    if tuner.rounds > before:
                        if before == 0 and broken == tuner.evaluations:
                            _refuse(tuner.result())
                        _save(tuner, folder, about)
                        report(tuner.rounds, tuner.lowest, tuner.over)
        except KeyboardInterrupt as error:
            with contextlib.suppress(KeyboardInterrupt):  # once more, while it is saved
                _save(tuner, folder, about)
            known = tuner.result() if tuner.evaluations else None
            when = f"after {tuner.evaluations} evaluations"
            raise InterruptedRun(when, folder, known) from error
        except BaseException:
            _save(tuner, folder, about)
            raise
    result = tuner.result()
    warn_of_nothing("minimize", result, stacklevel=2)
    return result


Submit = Callable[[Callable[[HParams], float], HParams], "Future[float | Exception]"]


@contextlib.contextmanager
def _pool(workers: int | Executor) -> Iterator[tuple[Submit, int]]:
    """How a candidate is handed to the workers, and how many they are."""
    if isinstance(workers, Executor):
        most = getattr(workers, "_max_workers", None) or os.cpu_count() or 1
        yield lambda fn, hparams: workers.submit(called, fn, hparams), most
        return
    most = checks.whole("workers", workers)
    if most == 1:
        yield _at_once, 1
        return
    pool = ThreadPoolExecutor(most)
    try:
        yield lambda fn, hparams: pool.submit(called, fn, hparams), most
    finally:
        pool.shutdown(cancel_futures=True)


def _at_once(fn: Callable[[HParams], float], hparams: HParams) -> Future[float | Exception]:
    future: Future[float | Exception] = Future()
    future.set_result(called(fn, hparams))
    return future


def _save(tuner: AskTell, folder: Path | None, about: str) -> None:
    if folder is not None and tuner.evaluations:
        tuner.save(folder, about)


def _refuse(result: MinimizeResult) -> None:
    """Ends a run in whose first round every call failed."""
    error = "at least one call of the first round must return a number, all failed or returned NaN"
    if not result.failures:
        raise ValueError(error)
    failure = result.failures[0]
    raise ValueError(f"{error}; at {failure.hparams}: {failure.message}")
