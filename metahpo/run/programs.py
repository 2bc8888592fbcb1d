"""What a driven run compiles, kept for the next run of the same loop.

A loop's programs are kept by the loop, the last ones of a few, and within them by what was traced:
the same shapes under the same JAX configuration.  A folder, if one is given, keeps them for other
processes too.
"""

import functools
import hashlib
import importlib.metadata
import os
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from metahpo._files import atomic_write, writable_folder
from metahpo.base import Key, PyTree
from metahpo.run.loop import (
    Loop,
    advance,
    empty_history,
    loop_keys,
    round_keys,
    strongly_typed,
    traced_once,
)

KEPT = 8
"""Loops whose programs stay in memory; what their functions refer to stays with them."""


class Programs(NamedTuple):
    """A loop's jitted functions.

    Attributes:
        start: ``(key) -> (keys of the rounds, (carry, history))``, before the first round.
        rounds: ``(keys, state, start i32[], stop i32[]) -> (done i32[], state)``, as ``advance``;
            one program for all bounds, which takes over the memory of the state.
        finish: ``(carry, history) -> result``.
        done: ``(carry) -> bool[]``, whether the run is, or all runs are, or None.
        compiled: of ``rounds``, by its jaxpr.
    """

    start: Callable[[Key], tuple[PyTree, PyTree]]
    rounds: Any
    finish: Callable[[PyTree, PyTree], Any]
    done: Callable[[PyTree], jax.Array] | None
    compiled: dict[Any, jax.stages.Compiled]


def programs(loop: Loop, lanes: bool) -> Programs:
    """The programs of a loop, of one run or of many side by side."""
    try:
        return _kept(loop, lanes)
    except TypeError:  # a function that cannot be told from others, as it has no hash
        return _programs(loop, lanes)


def compiled(
    program: Programs, keys: PyTree, state: PyTree, folder: str | os.PathLike[str] | None
) -> jax.stages.Compiled | None:
    """The rounds compiled for such arguments, or what was compiled for such before.

    ``None`` where compilation is switched off (``jax.disable_jit``), for debugging.

    Args:
        program: the loop's.
        keys: of the rounds.
        state: the carry and the history.
        folder: keeps compiled programs for other processes; made where it is missing.
    """
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        return None
    traced = program.rounds.trace(keys, state, np.int32(0), np.int32(0))
    # What is traced before is the same object; if JAX has let go of it, it is compiled again.
    if traced.jaxpr not in program.compiled:
        lowered = traced.lower()
        made = lowered.compile() if folder is None else _from_folder(lowered, folder)
        program.compiled[traced.jaxpr] = made
    return program.compiled[traced.jaxpr]


def _programs(loop: Loop, lanes: bool) -> Programs:
    loop = loop._replace(step=traced_once(loop.step))

    def start(key: Key) -> tuple[PyTree, PyTree]:
        init_key, round_key = loop_keys(key)
        carry = jax.tree.map(strongly_typed, loop.init(init_key))
        keys = round_keys(loop, round_key)
        return keys, (carry, empty_history(loop, keys, carry))

    def rounds(keys: PyTree, state: PyTree, start: jax.Array, stop: jax.Array) -> PyTree:
        return advance(loop, keys, state, start, stop)

    def side_by_side(keys: PyTree, state: PyTree, start: jax.Array, stop: jax.Array) -> PyTree:
        done, state = jax.vmap(rounds, (0, 0, None, None))(keys, state, start, stop)
        return done.max(), state

    done = loop.done
    if lanes:
        return Programs(
            jax.jit(jax.vmap(start)),
            jax.jit(side_by_side, donate_argnums=1),
            jax.jit(jax.vmap(loop.finish)),
            None if done is None else jax.jit(lambda carry: jax.vmap(done)(carry).all()),
            {},
        )
    return Programs(
        jax.jit(start),
        jax.jit(rounds, donate_argnums=1),
        jax.jit(loop.finish),
        None if done is None else jax.jit(done),
        {},
    )


_kept = functools.lru_cache(KEPT)(_programs)


def _from_folder(
    lowered: jax.stages.Lowered, folder: str | os.PathLike[str]
) -> jax.stages.Compiled:
    """The compiled program, from a file of its text and of what compiles it, or now and saved."""
    from jax.experimental import serialize_executable

    text = f"{_compiler()}\n{lowered.as_text()}"  # with all constants
    path = writable_folder(folder) / f"{hashlib.sha256(text.encode()).hexdigest()}.xla"
    try:
        return serialize_executable.deserialize_and_load(
            path.read_bytes(), lowered.in_tree, lowered.out_tree
        )
    except FileNotFoundError:
        pass
    except Exception:  # noqa: BLE001 - whatever is wrong with the file, compiling makes it good
        path.unlink()
    compiled = lowered.compile()
    try:
        payload, *_ = serialize_executable.serialize(compiled)
    except (AttributeError, TypeError, ValueError, pickle.PicklingError):
        return compiled  # it calls back into this process, so no other can have it
    with atomic_write(path) as file:
        file.write(payload)
    return compiled


def _compiler() -> tuple[Any, ...]:
    """What decides how a program is compiled, beside its text."""
    device = jax.devices()[0]
    return (
        *(importlib.metadata.version(name) for name in ("jax", "jaxlib")),
        (device.platform, device.device_kind, device.client.platform_version, jax.device_count()),
        [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")],
    )
