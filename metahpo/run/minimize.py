"""Minimising any Python function with any strategy, from the host."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import HParams, Key, Strategy
from metahpo.run import checkpoint
from metahpo.run.ask_tell import AskTell
from metahpo.run.candidates import called
from metahpo.run.host import check_first
from metahpo.run.progress import reporter
from metahpo.run.records import EvaluationError, InterruptedRun, MinimizeResult
from metahpo.stopping import Stopping


def minimize(
    fn: Callable[[HParams], float],
    space: spaces.Space,
    strategy: Strategy,
    *,
    rounds: int,
    key: Key | None = None,
    seed: int = 0,
    stop: Stopping | None = None,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    on_error: Literal["raise", "inf"] = "raise",
    about: str = "",
) -> MinimizeResult:
    """Minimises a Python function; it is called with Python values and is never traced.

    A function that JAX can trace is better off in ``search``, which compiles the whole run.  The
    strategy sees the same keys in both, so it makes the same proposals for the same losses.

    Args:
        fn: ``(hparams) -> loss``; ``hparams`` has the structure of ``space``, with floats, ints and
            the values of choices.  Called for one candidate after the other.
        space: the search space.
        strategy: proposes a population of candidates a round; one that trains from scratch and
            needs no gradient.  The function is not called for a slot with budget 0.
        rounds: rounds, at least 1.
        key: the only source of randomness; ``jax.random.key(seed)`` without one.
        seed: makes the key.
        stop: ends the run before its last round, as in ``search``.
        directory: a folder for a checkpoint after each round, as in ``drive``, and when the run
            breaks off within one.
        resume: goes on from the newest checkpoint there, with the next candidate.  The function
            must be the same.
        progress: whether to show progress on the standard error stream.
        on_error: what it means if ``fn`` raises an exception or returns something else than a real
            scalar: ``"raise"`` ends the run with an ``EvaluationError`` that names the candidate,
            ``"inf"`` counts as an infinite loss; the message is kept.
        about: what else must be the same for a checkpoint to fit, in words of your own.

    Returns:
        A ``MinimizeResult``.

    Raises:
        ValueError: for zero rounds, a space that is not one, a strategy that needs gradients or
            goes on from training states, or when no loss of the first round is finite; and for
            ``directory`` as in ``drive``.
        EvaluationError: if a call fails and ``on_error`` is ``"raise"``; a ``RuntimeError``.
        InterruptedRun: for a ``KeyboardInterrupt``, which it is, too.  Both hold what was evaluated
            so far as ``result``, and ``directory`` has it.

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
    checks.one_of("on_error", on_error, ("raise", "inf"))
    tuner = AskTell(space, strategy, key=key, seed=seed, rounds=rounds, stop=stop)
    folder = None if directory is None else checkpoint.prepare(directory, resume)
    if folder is not None:
        tuner.restore(folder, about)
    with reporter(progress, "minimize", rounds, tuner.rounds) as report:
        while not tuner.over:
            try:
                candidate = tuner.ask()
                loss = called(fn, candidate.hparams)
                if isinstance(loss, Exception) and on_error == "raise":
                    failure = tuner.failure(candidate.number, loss)
                    raise EvaluationError(failure, tuner.result()) from loss
            except BaseException as error:
                _save(tuner, folder, about)
                if isinstance(error, KeyboardInterrupt):
                    raise InterruptedRun(tuner.result()) from error
                raise
            done = tuner.rounds
            tuner.tell(candidate.number, loss)
            if tuner.rounds > done:
                _check_first(tuner)
                _save(tuner, folder, about)
                report(tuner.rounds, tuner.lowest, tuner.over)
    return tuner.result()


def _save(tuner: AskTell, folder: Path | None, about: str) -> None:
    if folder is not None and tuner.evaluations:
        tuner.save(folder, about)


def _check_first(tuner: AskTell) -> None:
    """Ends a run in whose first round nothing was finite."""
    if tuner.rounds > 1 or not tuner.evaluations:
        return
    result = tuner.result()
    try:
        check_first(result.history)
    except ValueError as error:
        if not result.failures:
            raise
        failure = result.failures[0]
        raise ValueError(f"{error}; at {failure.hparams}: {failure.message}") from error
