"""A run driven from the host: in chunks, with progress, checkpoints and resume.

``advance`` is compiled once, with the bounds of a chunk as traced numbers: every chunk length runs
the same program over the same rounds, so the history is the same to the byte, and a chunk that is
cut short needs no compilation of its own.
"""

import functools
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metahpo.base import Key, PyTree
from metahpo.run import checkpoint
from metahpo.run.loop import Loop, check_positive, loop_keys
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
    check_positive(chunk=chunk, rounds=loop.rounds)
    folder = None if directory is None else checkpoint.prepare(directory, resume)
    round_key, state = _start(loop, key)
    done, mark = 0, None
    if folder is not None:
        mark = checkpoint.fingerprint(key, loop.rounds, state, about)
        done, state = checkpoint.restore(folder, state, mark) or (0, state)
    advance = _compiled(loop, round_key, state) if done < loop.rounds else None
    with reporter(progress, name, loop.rounds, done) as report:
        while advance and done < loop.rounds:
            stop = min((done // chunk + 1) * chunk, loop.rounds)
            if done == 0:  # a run that cannot work ends after one round, not after one chunk
                state = advance(state, 0, 1)
                check_first(state[1])
            state = advance(state, max(done, 1), stop)
            done = stop
            if folder is not None and mark is not None:
                checkpoint.save(folder, done, state, mark)
            report(done, _lowest(state[1], done))
            if on_chunk is not None:
                on_chunk(done, _rows(state[1], done))
    return jax.jit(loop.finish)(*state)


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


def _start(loop: Loop, key: Key) -> tuple[Key, PyTree]:
    """The key of the rounds, and ``(carry, history)`` before the first of them."""
    init_key, round_key = loop_keys(key)

    @jax.jit
    def start(init_key: Key) -> PyTree:
        carry = jax.tree.map(strongly_typed, loop.init(init_key))
        _, record = jax.eval_shape(loop.step, round_key, carry)
        empty = jax.tree.map(lambda x: jnp.zeros((loop.rounds, *x.shape), x.dtype), record)
        return carry, empty

    # Copies, because ``advance`` takes over the memory of its arguments and ``init`` may hand out
    # arrays that belong to the caller.
    return round_key, jax.device_put(start(init_key), may_alias=False)


def strongly_typed(leaf: Any) -> jax.Array:
    """A weak type would be gone after the first round, and with it the program's signature."""
    leaf = jnp.asarray(leaf)
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf if is_key else jax.lax.convert_element_type(leaf, leaf.dtype)


def _compiled(loop: Loop, key: Key, state: PyTree) -> Callable[[PyTree, int, int], PyTree]:
    """``(state, start, stop) -> state``: the rounds ``start ... stop - 1``, one program for all."""

    @functools.partial(jax.jit, donate_argnums=1)
    def advance(key: Key, state: PyTree, start: jax.Array, stop: jax.Array) -> PyTree:
        def body(t: jax.Array, state: PyTree) -> PyTree:
            carry, history = state
            carry, record = loop.step(key, carry)
            return carry, jax.tree.map(lambda rows, row: rows.at[t].set(row), history, record)

        return jax.lax.fori_loop(start, stop, body, state)

    zero = np.int32(0)
    program = advance.lower(key, state, zero, zero).compile()
    placements, _ = program.input_shardings

    def run(state: PyTree, start: int, stop: int) -> PyTree:
        # What comes out may lie otherwise on the devices than what went in; a program for that
        # layout could round differently.
        args = jax.device_put((key, state, np.int32(start), np.int32(stop)), placements)
        return program(*args)

    return run
