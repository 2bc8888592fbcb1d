"""A run driven from the host: in chunks, with progress, checkpoints and resume.

The rounds are compiled once, with the bounds of a chunk as traced numbers: every chunk length runs
the same program over the same rounds, so the history is the same to the byte, and a chunk that is
cut short needs no compilation of its own.  Nor does another run of the same loop.
"""

import contextlib
import inspect
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo._files import claimed
from metahpo.base import Key, PyTree
from metahpo.floats import is_key
from metahpo.run import checkpoint, processes
from metahpo.run.health import health, warn_of_nothing
from metahpo.run.identity import loop_digest
from metahpo.run.interrupts import told_of_termination
from metahpo.run.loop import Loop
from metahpo.run.programs import Programs, compiled, programs
from metahpo.run.progress import reporter
from metahpo.run.records import InterruptedRun

OnChunk = Callable[..., bool | None]


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
    compilation_cache: str | os.PathLike[str] | None = None,
) -> Any:
    """Runs a loop from the host, with the same result for any ``chunk``.

    Every loop is compiled once, however often this is called for it and with whatever keys: make
    the loop outside of your own loop.

    Args:
        loop: from ``search_loop`` or ``meta_loop``, or one of your own.
        key: the only source of randomness, as in ``scan``; or many, ``key[runs]``, for as many runs
            side by side in one program, the result and the histories with a leading axis
            ``[runs]``.  They go on until the last one is done, and one is done as it is alone.
        chunk: rounds between two returns to the host, that is, between checkpoints; by default a
            twentieth of the run.
        directory: a folder for checkpoints, one after each chunk, of which the newest two stay;
            must be empty or missing without ``resume``.  Needs the extra ``checkpoint``.
        resume: goes on from the newest checkpoint in ``directory``; with none there yet, starts.
            The run must be the same: key, rounds, initial state, and all that a round computes.
            It may be resumed on other devices, and in other chunks.
        progress: whether to show progress on the standard error stream: a bar on a terminal (with
            the extra ``cli``), else a line now and then.
        on_chunk: called after each chunk as ``on_chunk(rounds_done, history, carry)``, where the
            history holds arrays with the leading axis ``[rounds_done]`` and the carry is what the
            loop goes on with, such as a ``MetaState`` with the ``hparams`` so far; all of them
            numpy's.  One of two arguments is called without the carry.  If it returns True, the
            run ends there, with a history of so many rounds.
        about: what else must be the same for a checkpoint to fit, in words of your own, such as
            the settings of a strategy.
        name: what the progress calls this run.
        compilation_cache: a folder that keeps the compiled program for other processes; a program
            that calls back into Python is not kept.  Without it JAX's own cache is used where it is
            switched on.  The files are code: take them from nobody else.

    Returns:
        What ``loop.finish`` returns.

    Raises:
        ValueError: if no loss of the first round is finite, in none of the runs; for keys of more
            than one axis; for a chunk below 1; for a folder that
            is not writable, not empty (without ``resume``), of another run or damaged (with it).
        RuntimeError: if another process of the run has died.
        InterruptedRun: for a ``KeyboardInterrupt``, which it is, too, or SIGTERM; it says how to go
            on.

    Warns:
        UserWarning: at the end, with ``progress``, if more than 5 % of the updates were left out or
            of the candidates had no finite loss; the progress says how many while it runs.  Always
            if one of many searches found no finite loss at all.

    Several processes (``jax.distributed.initialize``) that share a mesh all make the same call.
    Process 0 alone reads and writes the folder and shows progress; the others are told what it
    read.  When a process dies, the others' next collective operation fails and they raise the
    ``RuntimeError``.  A process in which the run fails ends at its exit without waiting for the
    others, with the code 1, and so ends them.  A process that waits without such an error is ended
    by JAX after ``heartbeat_timeout_seconds`` (an argument of ``initialize``, 100 by default); on
    CPUs with several devices in a process
    ``XLA_FLAGS=--xla_cpu_collective_timeout_seconds=...`` is earlier.

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
    checks.record("loop", loop, Loop, "mh.run.search_loop or mh.run.meta_loop")
    if resume and directory is None:
        raise ValueError("resume=True needs the directory whose run goes on, got directory=None")
    chunk = math.ceil(loop.rounds / 20) if chunk is None else chunk
    chunk, _ = checks.counts(chunk=chunk, rounds=loop.rounds)
    lanes = _many(key)
    program = programs(loop, lanes)
    shown = progress and processes.is_first()
    with (
        reporter(shown, name, loop.rounds) as report,
        processes.told_of_loss(directory),
        _told_of_interrupt(directory),
        told_of_termination(),
        _files(directory, resume) as files,
    ):
        with report.compiling(not program.compiled):
            keys, state = _start(program, key)
            made = compiled(program, keys, state, compilation_cache)
            run = _placing(made, program.rounds, keys)
        done = 0
        if files is not None:
            mark = checkpoint.fingerprint(key, loop.rounds, state, about, loop_digest(loop))
            done, state = files.opened(state, mark)
        ended = done == loop.rounds or _ended(program, state)
        while not ended:
            stop = min((done // chunk + 1) * chunk, loop.rounds)
            if done == 0:  # a run that cannot work ends after one round, not after one chunk
                done, state = run(state, 0, 1)
                check_first(_rows(state[1], 1, lanes), lanes)
            done, state = run(state, done, stop)
            ended = done == loop.rounds or _ended(program, state)
            if files is not None:
                files.save(done, state)
            now = health(state[1], done, lanes)
            report(done, now.value, ended, now.kind, now.note)
            if on_chunk is not None and _told(on_chunk, done, state, lanes) is True and not ended:
                state = state[0], _rows(state[1], done, lanes)
                break
    if shown:
        health(state[1], done, lanes).warn(name, stacklevel=2)
    result = program.finish(*state)
    warn_of_nothing(name, result, stacklevel=2)
    return result


@contextlib.contextmanager
def _told_of_interrupt(directory: str | os.PathLike[str] | None) -> Iterator[None]:
    """Says how a run goes on that was interrupted, at whatever moment."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptedRun("the run was interrupted", directory) from error


def _told(on_chunk: OnChunk, done: int, state: PyTree, lanes: bool) -> bool | None:
    carry, history = state
    history = _rows(history, done, lanes)
    try:
        inspect.signature(on_chunk).bind(done, history, carry)
    except TypeError:
        return on_chunk(done, history)
    return on_chunk(done, history, jax.tree.map(_on_host, carry))


def _on_host(leaf: chex.Array) -> chex.Array:
    # A copy: the next chunk takes over the memory of the carry.
    return leaf.copy() if is_key(leaf) else np.array(leaf)


def _many(key: Key) -> bool:
    """Whether these are the keys of many runs."""
    axes = jnp.ndim(key) - (not jnp.issubdtype(key.dtype, jax.dtypes.prng_key))
    if axes not in (0, 1):
        raise ValueError(f"key must be one key or key[runs], got the shape {jnp.shape(key)}")
    return axes == 1


@contextlib.contextmanager
def _files(directory: str | os.PathLike[str] | None, resume: bool) -> Iterator["_Files | None"]:
    """The folder of a run, which nobody else has within."""
    if directory is None:
        yield None
        return
    files = _Files(directory, resume)
    with files.claimed():
        yield files


class _Files:
    """The folder of a run's checkpoints, which belongs to process 0."""

    def __init__(self, directory: str | os.PathLike[str], resume: bool) -> None:
        def prepare() -> int:
            self.folder = checkpoint.prepare(directory, resume)
            return 0

        processes.by_first(prepare)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other runs out of the folder."""
        with contextlib.ExitStack() as stack:

            def claim() -> int:
                stack.enter_context(claimed(self.folder))
                return 0

            processes.by_first(claim)
            yield

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


def _ended(program: Programs, state: PyTree) -> bool:
    return program.done is not None and bool(program.done(state[0]))


def check_first(history: PyTree, lanes: bool = False) -> None:
    """Raises ``ValueError`` if the history has losses and none of the first round is finite."""
    losses = getattr(history, "loss", None)
    if losses is None:
        return
    first = np.asarray(losses[:, 0] if lanes else losses[0])
    if not np.isfinite(first).any():
        raise ValueError(
            "at least one loss of the first round must be finite, got "
            f"{np.array2string(first, threshold=8)} (inf stands for any loss that is not finite)"
        )


def _rows(history: PyTree, done: int, lanes: bool) -> PyTree:
    # Copies: the next chunk takes over the memory of the history.  Cut on the host, where every
    # number of rounds does not compile a program of its own.
    def cut(rows: chex.Array) -> np.ndarray:
        rows = np.asarray(rows)
        return (rows[:, :done] if lanes else rows[:done]).copy()

    return jax.tree.map(cut, history)


def _start(program: Programs, key: Key) -> tuple[PyTree, PyTree]:
    """The keys of the rounds, and ``(carry, history)`` before the first of them."""
    # Copies, because the program takes over the memory of its arguments and ``init`` may hand out
    # arrays that belong to the caller.
    return jax.device_put(program.start(key), may_alias=False)


def _placing(
    program: jax.stages.Compiled | None, plain: Callable[..., PyTree], keys: PyTree
) -> Callable[[PyTree, int, int], tuple[int, PyTree]]:
    """``(state, start, stop) -> (done, state)``."""
    if program is None:
        return lambda state, start, stop: plain(keys, state, start, stop)
    placements, _ = program.input_shardings

    def run(state: PyTree, start: int, stop: int) -> tuple[int, PyTree]:
        # What comes out may lie otherwise on the devices than what went in; a program for that
        # layout could round differently.
        args = processes.placed((keys, state, np.int32(start), np.int32(stop)), placements)
        done, state = program(*args)
        return int(done), state

    return run
