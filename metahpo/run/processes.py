"""Several processes that run one program together, as ``jax.distributed`` starts them.

Every process makes the same calls with the same arguments.  Files belong to process 0 alone: it
writes checkpoints, and what it reads it tells the others, who need not see its folder.
"""

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from metahpo.base import PyTree

_FAILED = -1
_STATUS = ("ABORTED:", "DEADLINE_EXCEEDED:", "INTERNAL:", "UNAVAILABLE:", "UNKNOWN:")


def is_first() -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return jax.process_index() == 0


def by_first(fn: Callable[[], int]) -> int:
    """``fn()`` of process 0, told to all; if it raises an exception, all processes do."""
    if jax.process_count() == 1:
        return fn()
    number, error = _FAILED, None
    if is_first():
        try:
            number = fn()
        except Exception as found:
            error = found
    number = int(multihost_utils.broadcast_one_to_all(np.int32(number)))
    if error is not None:
        raise error
    if number == _FAILED:
        raise RuntimeError("process 0 could not start the run; its own error says why")
    return number


def from_first(tree: PyTree) -> PyTree:
    """The arrays of process 0, to the bit, as numpy arrays and typed keys on every process."""
    if jax.process_count() == 1:
        return tree
    leaves, treedef = jax.tree.flatten(tree)
    raw = [np.asarray(_numbers(leaf)) for leaf in leaves]
    # As bytes: the sum behind a broadcast would take the sign of a negative zero.
    told = multihost_utils.broadcast_one_to_all([np.frombuffer(x.tobytes(), np.uint8) for x in raw])
    values = [
        np.frombuffer(np.asarray(bits).tobytes(), x.dtype).reshape(x.shape)
        for bits, x in zip(told, raw, strict=True)
    ]
    pairs = zip(leaves, values, strict=True)
    return jax.tree.unflatten(treedef, [_as_key_like(leaf, value) for leaf, value in pairs])


def on_host(tree: PyTree) -> PyTree:
    """Arrays that every process has whole: parts that lie on other processes are fetched."""

    def fetched(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        numbers = _numbers(leaf)
        if not numbers.is_fully_replicated:
            numbers = multihost_utils.process_allgather(numbers, tiled=True)
        return _as_key_like(leaf, np.asarray(numbers))

    return jax.tree.map(fetched, tree)


def placed(tree: PyTree, shardings: PyTree) -> PyTree:
    """``jax.device_put``, which does not reach the devices of other processes."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    return jax.jit(lambda tree: tree, out_shardings=shardings)(tree)


@contextmanager
def told_of_loss(directory: Any) -> Iterator[None]:
    """Says what to do when the work together breaks off, most often because a process has died.

    A process that failed itself must not wait for the others at its exit, as they wait for it.
    """
    try:
        yield
    except BaseException as error:
        if jax.process_count() == 1:
            raise
        atexit.register(_leave)  # before JAX's own, which waits
        if not _is_of_runtime(error):
            raise
        advice = (
            "a run with directory=... can be resumed"
            if directory is None
            else f"start all processes again with resume=True to go on from {str(directory)!r}"
        )
        raise RuntimeError(
            f"process {jax.process_index()} of {jax.process_count()} lost the others, one of which "
            f"has probably died (see its own messages); {advice}: {error}"
        ) from error


def _is_of_runtime(error: BaseException) -> bool:
    """Whether XLA says so; a program that it was just handed fails with a ``ValueError``."""
    status = isinstance(error, ValueError) and str(error).startswith(_STATUS)
    return status or isinstance(error, jax.errors.JaxRuntimeError)


def _leave() -> None:
    """Ends the process at once; the others then fail in what they wait for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _as_key_like(leaf: Any, numbers: np.ndarray) -> Any:
    if not _is_key(leaf):
        return numbers
    return jax.random.wrap_key_data(jnp.asarray(numbers), impl=jax.random.key_impl(leaf))
