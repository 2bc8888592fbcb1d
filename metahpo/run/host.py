"""A run driven from the host: in chunks, with progress, checkpoints and resume.

The rounds are compiled once, with the bounds of a chunk as traced numbers: every chunk length runs
the same program over the same rounds, so the history is the same to the byte, and a chunk that is
cut short needs no compilation of its own.
"""

import functools
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from metahpo import checks
from metahpo.base import Key, PyTree
from metahpo.run import checkpoint, processes
from metahpo.run.loop import (
    Loop,
    advance,
    empty_history,
    loop_keys,
    round_keys,
    strongly_typed,
)
from metahpo.run.progress import reporter

OnChunk = Callable[[int, PyTree], None]


def drive(
    loop: Loop,
    key: Key,
    *,
    chunk: int | None = None,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    on_chunk: OnChunk | None = None,
    about: str = "",
    name: str = "run",
) -> Any:
    """Runs a loop from the host, with the same result for any ``chunk``.

    Args:
        loop: from ``search_loop`` or ``meta_loop``, or one of your own.
        key: the only source of randomness, as in ``scan``.
        chunk: rounds between two returns to the host, that is, between checkpoints; by default a
            twentieth of the run.
        directory: a folder for checkpoints, one after each chunk, of which the newest two stay;
            must be empty or missing without ``resume``.  Needs the extra ``checkpoint``.
        resume: goes on from the newest checkpoint in ``directory``; with none there yet, starts.
            The run must be the same (key, rounds, shapes and initial state).
        progress: whether to show progress on the standard error stream: a bar on a terminal (with
            the extra ``cli``), else a line now and then.
        on_chunk: called after each chunk as ``on_chunk(rounds_done, history)``, where the history
            holds numpy arrays with the leading axis ``[rounds_done]``.
        about: what else must be the same for a checkpoint to fit, in words of your own, such as
            the settings of a strategy.
        name: what the progress calls this run.

    Returns:
        What ``loop.finish`` returns.

    Raises:
        ValueError: if no loss of the first round is finite; for a chunk below 1; for a folder that
            is not writable, not empty (without ``resume``), of another run or damaged (with it).
        RuntimeError: if another process of the run has died.

    Several processes (``jax.distributed.initialize``) that share a mesh all make the same call.
    Process 0 alone reads and writes the folder and shows progress; the others are told what it
    read.  When a process dies, the others' next collective operation fails and they raise the
    ``RuntimeError``.  A process that waits without such an error is ended by JAX after
    ``heartbeat_timeout_seconds`` (an argument of ``initialize``, 100 by default); on CPUs with
    several devices in a process ``XLA_FLAGS=--xla_cpu_collective_timeout_seconds=...`` is earlier.

    Example:
        >>> import jax, metahpo as mh
        >>> loop = mh.run.search_loop(
        ...     mh.problems.function(lambda h: h["x"] ** 2), {"x": mh.Float(-1.0, 1.0)},
        ...     mh.strategies.random({"x": mh.Float(-1.0, 1.0)}, population=8), rounds=5, steps=1,
        ... )
        >>> result = mh.run.drive(loop, jax.random.key(0), chunk=2, progress=False)
        >>> result.history.loss.shape
        (5, 8)
    """
    chunk = math.ceil(loop.rounds / 20) if chunk is None else chunk
    checks.counts(chunk=chunk, rounds=loop.rounds)
    files = None if directory is None else _Files(directory, resume)
    keys, state = _start(loop, key)
    done = 0
    if files is not None:
        done, state = files.opened(state, checkpoint.fingerprint(key, loop.rounds, state, about))
    ended = done == loop.rounds or _ended(loop, state)
    program = None if ended else _compiled(loop, keys, state)
    shown = progress and processes.is_first()
    with reporter(shown, name, loop.rounds, done) as report, processes.told_of_loss(directory):
        while program and not ended:
            stop = min((done // chunk + 1) * chunk, loop.rounds)
            if done == 0:  # a run that cannot work ends after one round, not after one chunk
                done, state = program(state, 0, 1)
                check_first(state[1])
            done, state = program(state, done, stop)
            ended = done == loop.rounds or _ended(loop, state)
            if files is not None:
                files.save(done, state)
            report(done, _lowest(state[1], done), ended)
            if on_chunk is not None:
                on_chunk(done, _rows(state[1], done))
    return jax.jit(loop.finish)(*state)


class _Files:
    """The folder of a run's checkpoints, which belongs to process 0."""

    def __init__(self, directory: str | os.PathLike[str], resume: bool) -> None:
        def prepare() -> int:
            self.folder = checkpoint.prepare(directory, resume)
            return 0

        processes.by_first(prepare)

    def opened(self, state: PyTree, mark: checkpoint.Fingerprint) -> tuple[int, PyTree]:
        """The rounds done and the state to go on from: the newest checkpoint's or the start."""
        self.mark, found = mark, [state]

        def restore() -> int:
            done, found[0] = checkpoint.restore(self.folder, state, mark) or (0, state)
            return done

        done = processes.by_first(restore)
        return done, processes.from_first(found[0]) if done else state

    def save(self, done: int, state: PyTree) -> None:
        state = processes.on_host(state)
        if processes.is_first():
            checkpoint.save(self.folder, done, state, self.mark)


def _ended(loop: Loop, state: PyTree) -> bool:
    return loop.done is not None and bool(loop.done(state[0]))


def check_first(history: PyTree) -> None:
    """Raises ``ValueError`` if the history has losses and none of the first round is finite."""
    losses = getattr(history, "loss", None)
    if losses is not None and not np.isfinite(first := np.asarray(losses[0])).any():
        raise ValueError(
            "at least one loss of the first round must be finite, got "
            f"{np.array2string(first, threshold=8)} (inf stands for any loss that is not finite)"
        )


def _rows(history: PyTree, done: int) -> PyTree:
    # Copies: the next chunk takes over the memory of the history.
    return jax.tree.map(lambda rows: np.array(rows[:done]), history)


def _lowest(history: PyTree, done: int) -> float:
    losses = getattr(history, "loss", None)
    return math.nan if losses is None else float(np.min(np.asarray(losses)[:done]))


def _start(loop: Loop, key: Key) -> tuple[PyTree, PyTree]:
    """The keys of the rounds, and ``(carry, history)`` before the first of them."""
    init_key, round_key = loop_keys(key)

    @jax.jit
    def start(init_key: Key, round_key: Key) -> PyTree:
        carry = jax.tree.map(strongly_typed, loop.init(init_key))
        keys = round_keys(loop, round_key)
        return keys, (carry, empty_history(loop, keys, carry))

    # Copies, because the program takes over the memory of its arguments and ``init`` may hand out
    # arrays that belong to the caller.
    return jax.device_put(start(init_key, round_key), may_alias=False)


def _compiled(loop: Loop, keys: PyTree, state: PyTree) -> Callable[[PyTree, int, int], Any]:
    """``(state, start, stop) -> (done, state)``: rounds as in ``advance``, one program for all."""

    @functools.partial(jax.jit, donate_argnums=1)
    def rounds(keys: PyTree, state: PyTree, start: jax.Array, stop: jax.Array) -> PyTree:
        return advance(loop, keys, state, start, stop)

    zero = np.int32(0)
    program = rounds.lower(keys, state, zero, zero).compile()
    placements, _ = program.input_shardings

    def run(state: PyTree, start: int, stop: int) -> tuple[int, PyTree]:
        # What comes out may lie otherwise on the devices than what went in; a program for that
        # layout could round differently.
        args = processes.placed((keys, state, np.int32(start), np.int32(stop)), placements)
        done, state = program(*args)
        return int(done), state

    return run
