"""Minimising any Python function with any strategy, from the host."""

import contextlib
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal

import chex

from metahpo import checks, stopping
from metahpo import space as spaces
from metahpo._files import claimed
from metahpo.base import HParams, Key, Strategy
from metahpo.hinted import as_points, hinted
from metahpo.run import checkpoint, executors, log
from metahpo.run.agreement import check_any_order, check_same_space, takes_trainings
from metahpo.run.ask_tell import AskTell, Candidate
from metahpo.run.candidates import called, trained
from metahpo.run.health import warn_of_nothing
from metahpo.run.interrupts import told_of_termination
from metahpo.run.progress import reporter
from metahpo.run.records import EvaluationError, InterruptedRun, MinimizeResult, MinimizeState
from metahpo.run.states import States
from metahpo.run.workers import Call, Workers
from metahpo.stopping import Stopping


def minimize(
    fn: Callable[..., Any],
    space: spaces.Space,
    strategy: Strategy,
    *,
    rounds: int | None = None,
    key: Key | None = None,
    seed: int | None = None,
    stop: Stopping | None = None,
    state: MinimizeState | None = None,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    on_error: Literal["raise", "inf"] = "raise",
    workers: int | Executor | executors.MakeExecutor = 1,
    asynchronous: bool = False,
    retries: int = 0,
    seconds: float | None = None,
    about: str = "",
    hints: list[HParams] | chex.Array | None = None,
) -> MinimizeResult:
    """Minimises a Python function; it is called with Python values and is never traced.

    A function that JAX can trace is better off in ``search``, which compiles the whole run.  The
    strategy sees the same keys in both, so it makes the same proposals for the same losses.

    Numbers are of double precision: the function gets values within their bounds, its losses are
    kept as it returns them, and rules of ``stop`` see those.  A strategy that works in single
    precision is told rounded losses; where rounding would hide which of two is lower (a large
    offset, tiny or huge values), it is told others in the same order, nearly to scale.

    With ``asynchronous=True`` a worker that is free gets another candidate at once, and those under
    way are pending to the strategy: take ``population=1``, so that each is proposed with all that
    is known.  The result then depends on the order in which losses come, and on nothing else.  In a
    ``directory`` each of them is kept as soon as it is told, in ``log.jsonl``; a run that was
    killed goes through its log again, evaluates once more what was under way, and goes on.

    With a strategy that grants budgets (``successive_halving``, ``hyperband``, ``asha``) or goes on
    from trainings (``pbt``) the function trains on: ``(hparams, steps, state) -> (loss, state)``.
    It makes ``steps`` updates from ``state``, ``None`` at the beginning, and returns the loss and
    the state that they lead to, anything that can be pickled.  ``steps`` is ``None`` where the
    strategy leaves it to the function.  The history's ``budget`` counts all updates behind a loss.
    States are kept as long as a training may go on from them: in memory, or in the folder
    ``states`` of the ``directory``, a file each.

    Args:
        fn: ``(hparams) -> loss``; ``hparams`` has the structure of ``space``, with floats, ints and
            the values of choices.  An infinite loss is a candidate that breaks a constraint.  Or
            ``(hparams, steps, state) -> (loss, state)``, see above.
        space: the search space.
        strategy: proposes a population of candidates a round; one that needs no gradient.  The
            function is not called for a slot with budget 0.
        rounds: rounds, at least 1; without it, until ``strategy`` (``asha``, ``tpe``), ``stop`` or
            ``seconds`` ends the run.
        key: the only source of randomness; ``jax.random.key(0)`` without one and without ``seed``.
        seed: makes the key, in place of ``key``.
        stop: ends the run before its last round, as in ``search``.
        state: goes on from an earlier result's ``state``, with ``rounds`` more.  Key and strategy
            must be the same; ``stop`` may be another and counts from the first round.  The result
            is that of both calls, as if they had been one.
        directory: a folder for a checkpoint after each round, as in ``drive``, and when the run
            breaks off within one; of an asynchronous run, for its log.  States in it are pickled,
            and so are code: go on with nobody else's.
        resume: goes on from the newest checkpoint there, with the next candidate.  The function
            must be the same; ``rounds``, counted from the first, may be more, and ``stop`` another.
        progress: whether to show progress on the standard error stream.
        on_error: what it means if ``fn`` raises an exception or returns something else than a real
            scalar: ``"raise"`` ends the run with an ``EvaluationError`` that names the candidate,
            ``"inf"`` counts as an infinite loss; the message is kept.
        workers: how many candidates are evaluated at once: a number of threads, an executor of
            ``concurrent.futures`` (of processes, of a cluster), or a function that makes one, such
            as ``lambda: ProcessPoolExecutor(4)``; that is called again when a process dies and
            takes the executor along.  Those under way are then evaluated again, one at a time, so
            that the one whose process dies is known, and it alone fails.  Without
            ``asynchronous`` the result is the same for every number, as long as ``fn`` depends on
            its arguments alone.
        asynchronous: whether a candidate is proposed as soon as a worker is free, by a strategy
            with ``needs.order=False``, and not a round as soon as the last one is told.
        retries: how often a candidate that failed, or whose worker died, is evaluated again before
            that counts.
        seconds: begins with no candidate after so much time, and returns what is known by then.
        about: what else must be the same for a checkpoint to fit, in words of your own.
        hints: evaluated first, as in ``search``.

    Returns:
        A ``MinimizeResult``.

    Raises:
        ValueError: for zero rounds, a space that is not one, a strategy that needs gradients, or
            one of other needs than ``fn`` and ``asynchronous`` have, a state that key and strategy
            do not lead to, a function that cannot be sent to other processes, or when all
            of the first round (asynchronous: as many as that, or as there are workers) fail or are
            NaN; and for ``directory`` as in ``drive``.
        EvaluationError: if a call fails and ``on_error`` is ``"raise"``; a ``RuntimeError``.
        BrokenExecutor: if a worker took the executor along, and there is no function to make
            another; a ``RuntimeError``.
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
        >>> def train(h, steps, state):
        ...     x = 1.0 if state is None else state
        ...     for _ in range(steps):
        ...         x -= h["rate"] * 2 * x
        ...     return x**2, x
        >>> rates = {"rate": mh.Float(1e-3, 1.0, log=True)}
        >>> halving = mh.strategies.asha(rates, population=9, max_steps=9)
        >>> result = mh.minimize(train, rates, halving, asynchronous=True, progress=False)
        >>> int(result.history.budget.max()), result.stop_reason.name
        (9, 'BUDGET')
    """
    checks.record("strategy", strategy, Strategy, "a function of mh.strategies")
    trainings = takes_trainings(fn, strategy)
    if hints is not None:
        check_same_space(strategy, space)
        strategy = hinted(strategy, as_points(space, hints))
    if asynchronous:
        check_any_order(strategy)
    retries = checks.whole("retries", retries, at_least=0)
    if rounds is None:
        if stop is None and seconds is None and strategy.stop is None:
            raise ValueError("a run needs rounds, stop or seconds: this strategy never ends")
        stop = stopping.any_of() if stop is None else stop
    checks.one_of("on_error", on_error, ("raise", "inf"))
    if resume and directory is None:
        raise ValueError("resume=True needs the directory whose run goes on, got directory=None")
    if resume and state is not None:
        raise ValueError("a run goes on from its state or from its directory, got both")
    tuner = AskTell(
        space,
        strategy,
        key=key,
        seed=seed,
        rounds=rounds,
        stop=stop,
        state=state,
        trainings=trainings,
    )
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    kind = log if asynchronous else checkpoint
    folder = None if directory is None else kind.prepare(directory, resume)
    saved_in = None if asynchronous else folder  # the log is written as it grows
    states = States(folder)

    def call(candidate: Candidate) -> Call:
        if not trainings:
            return called, fn, candidate.hparams
        return trained, fn, candidate.hparams, candidate.budget, states.of(candidate.parent)

    broken = 0  # calls that failed or returned NaN
    with (
        contextlib.nullcontext() if folder is None else claimed(folder),
        reporter(progress, "minimize", tuner.limit or rounds, tuner.rounds) as report,
        executors.opened(workers) as executor,
        told_of_termination(),
    ):
        crew = Workers(executor, call, retries)
        try:
            if folder is not None:
                (tuner.keep_log if asynchronous else tuner.restore)(folder, about)
            states.forget_all_but(tuner.parents)
        except KeyboardInterrupt as error:
            raise InterruptedRun("the run was interrupted", folder) from error
        try:
            while crew.busy or not tuner.over:
                # By default a round is told as a whole, so that workers change nothing.
                while (
                    crew.free
                    and (asynchronous or tuner.queued or not crew.busy)
                    and time.monotonic() < deadline
                    and (candidate := _next(tuner)) is not None
                ):
                    crew.start(candidate)
                if not crew.busy:
                    break  # the time is over
                for candidate, (loss, state_after) in crew.finished():
                    if isinstance(loss, Exception) and on_error == "raise":
                        failure = tuner.failure(candidate.number, loss)
                        raise EvaluationError(failure, tuner.result()) from loss
                    before = tuner.rounds
                    if trainings:  # first, so that whoever was told has its state
                        states.keep(candidate.number, state_after)
                    tuner.tell(candidate.number, loss)
                    broken += isinstance(loss, Exception) or math.isnan(loss)
                    if broken == tuner.evaluations:
                        _check_hopes(tuner, executor.most if asynchronous else 0)
                    if tuner.rounds > before:
                        _save(tuner, saved_in, about)
                        states.forget_all_but(tuner.parents)
                        report(tuner.rounds, tuner.lowest, tuner.over)
        except KeyboardInterrupt as error:
            with contextlib.suppress(KeyboardInterrupt):  # once more, while it is saved
                _save(tuner, saved_in, about)
            known = tuner.result() if tuner.evaluations else None
            when = f"after {tuner.evaluations} evaluations"
            raise InterruptedRun(when, folder, known) from error
        except BaseException:
            _save(tuner, saved_in, about)
            raise
    result = tuner.result()
    warn_of_nothing("minimize", result, stacklevel=2)
    return result


def _next(tuner: AskTell) -> Candidate | None:
    """Another candidate, if there is one now."""
    if not tuner.ready:
        return None
    try:
        return tuner.ask()
    except RuntimeError:  # the strategy had to be asked to know that it waits, or has ended
        if tuner.ready:
            raise
        return None


def _save(tuner: AskTell, folder: Path | None, about: str) -> None:
    if folder is not None and tuner.evaluations:
        tuner.save(folder, about)


def _check_hopes(tuner: AskTell, workers: int) -> None:
    """Ends a run in which every call failed, of the first round and of all workers."""
    if not tuner.rounds or tuner.evaluations < workers:
        return
    result = tuner.result()
    error = "at least one call of the first round must return a number, all failed or returned NaN"
    if not result.failures:
        raise ValueError(error)
    failure = result.failures[0]
    raise ValueError(f"{error}; at {failure.hparams}: {failure.message}")
