"""Checkpoints of a run: written whole or not at all, and believed only when intact.

A folder belongs to one run.  Each checkpoint is a folder ``round_00000012`` in it (or
``round_00000012_00000003``, with 3 members of the next round) with the arrays as orbax writes them
(the extra ``checkpoint``) and ``metahpo.json``, which says what run this is and holds a sha256
digest of every file.  A checkpoint is written under another name and renamed,
so a process killed at any moment leaves only complete ones behind.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metahpo._extras import require
from metahpo.base import Key, PyTree
from metahpo.run import folders
from metahpo.run.identity import array_bytes

KEEP = 2
MANIFEST = "metahpo.json"
_NAME = re.compile(r"round_(\d{8})(?:_(\d{8}))?")
_UNFINISHED = ".unfinished-"

Fingerprint = dict[str, Any]


def prepare(directory: str | os.PathLike[str], resume: bool) -> Path:
    """Makes a folder ready for a run's checkpoints.

    Args:
        directory: made where it is missing.
        resume: whether the run in it goes on.

    Returns:
        The absolute path.

    Raises:
        ValueError: if the folder is not writable, holds anything although ``resume`` is false, or
            holds something but no checkpoint although ``resume`` is true.
        ImportError: if orbax is not installed.
    """
    require("orbax.checkpoint", "checkpoint")
    return folders.prepared(
        directory,
        resume,
        "checkpoint",
        lambda name: _NAME.fullmatch(name) is not None,
        lambda name: name.startswith(_UNFINISHED),
    )


def fingerprint(
    key: Key, rounds: int | None, start: PyTree, about: str = "", program: str = ""
) -> Fingerprint:
    """What makes a run this run and no other.

    Args:
        key: the run's key.
        rounds: its number of rounds, ``None`` if it may go on with more.
        start: the carry and the empty history before the first round; the structure, the shapes
            and the values count.
        about: whatever else the caller wants to be the same, in words.
        program: a digest of what is computed.
    """
    return {
        "rounds": rounds,
        "key": _digest([key]),
        "leaves": _describe(start),
        "start": _digest(jax.tree.leaves(start)),
        "about": about,
        "program": program,
    }


def rounds_done(folder: Path) -> int:
    """The number of rounds behind the newest checkpoint, 0 without one."""
    return _newest(folder)[0]


def save(
    folder: Path,
    done: int,
    state: PyTree,
    mark: Fingerprint,
    part: int = 0,
    notes: PyTree = None,
) -> Path:
    """Writes a checkpoint in one piece and removes all but the newest ``KEEP``.

    Args:
        folder: from ``prepare``.
        done: rounds behind ``state``.
        state: a pytree of arrays; typed keys may be among them.
        mark: from ``fingerprint``.
        part: members of the next round behind ``state``.
        notes: whatever else JSON can hold, for ``restore_notes``.

    Returns:
        The checkpoint's path.
    """
    target = _path(folder, done, part)
    if target.exists():  # the same members came to the same end again
        return target
    temporary = folder / f"{_UNFINISHED}{target.name}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    leaves = [_raw(leaf) for leaf in jax.tree.leaves(state)]
    # Orbax refuses arrays without elements; their shape says it all.
    arrays = {f"{i:05d}": leaf for i, leaf in enumerate(leaves) if leaf.size}
    with _checkpointer() as (ocp, checkpointer):
        checkpointer.save(temporary, args=ocp.args.PyTreeSave(arrays))
    manifest = {
        "metahpo": sys.modules["metahpo"].__version__,  # an import would be an arrow upwards
        "rounds_done": done,
        "part": part,
        "notes": notes,
        "run": mark,
        "files": _file_digests(temporary),
    }
    manifest["digest"] = _text_digest(manifest)
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
    temporary.rename(target)
    _prune(folder)
    return target


def restore(folder: Path, template: PyTree, mark: Fingerprint) -> tuple[int, PyTree] | None:
    """Reads the newest checkpoint.

    Args:
        folder: from ``prepare``.
        template: a pytree of arrays as given to ``save``; only its structure and types count.
        mark: from ``fingerprint``.

    Returns:
        The rounds done and the state (numpy arrays, and typed keys), or ``None`` without a
        checkpoint.

    Raises:
        ValueError: if the checkpoint is damaged or belongs to another run.  Nothing is changed in
            the folder.
    """
    done, part = _newest(folder)
    if not done and not part:
        return None
    path = _path(folder, done, part)
    manifest = _read_manifest(path)
    check_same_run(f"the checkpoint {str(path)!r}", manifest["run"], mark)
    if (manifest["rounds_done"], manifest["part"]) != (done, part):
        raise _damaged(path, f"it was written as that of round {manifest['rounds_done']}")
    leaves, treedef = jax.tree.flatten(template)
    names = {f"{i:05d}": leaf for i, leaf in enumerate(leaves) if _raw(leaf).size}
    try:
        with _checkpointer() as (ocp, checkpointer):
            plain = ocp.RestoreArgs(restore_type=np.ndarray)
            arrays = checkpointer.restore(
                path, args=ocp.args.PyTreeRestore(restore_args=dict.fromkeys(names, plain))
            )
    except Exception as error:
        raise _damaged(path, str(error)) from error
    found = [_like(leaf, arrays.get(f"{i:05d}")) for i, leaf in enumerate(leaves)]
    return done, jax.tree.unflatten(treedef, found)


def read(folder: Path) -> list[np.ndarray]:
    """The arrays of the newest checkpoint, whatever run it is of; nothing without one.

    Raises:
        ValueError: if the checkpoint is damaged.
    """
    newest = _newest(folder)
    if not any(newest):
        return []
    path = _path(folder, *newest)
    _read_manifest(path)
    try:
        with _checkpointer() as (ocp, checkpointer):
            found = checkpointer.restore(path, args=ocp.args.PyTreeRestore())
    except Exception as error:
        raise _damaged(path, str(error)) from error
    return [np.asarray(found[name]) for name in sorted(found)]


def restore_notes(folder: Path) -> PyTree:
    """The notes of the newest checkpoint, once ``restore`` has proved it to be sound."""
    return json.loads((_path(folder, *_newest(folder)) / MANIFEST).read_bytes())["notes"]


def _newest(folder: Path) -> tuple[int, int]:
    """The rounds, and members of the round after them, behind the newest checkpoint."""
    found = [_NAME.fullmatch(path.name) for path in folder.iterdir()]
    return max(((int(m[1]), int(m[2] or 0)) for m in found if m), default=(0, 0))


def _path(folder: Path, done: int, part: int) -> Path:
    return folder / (f"round_{done:08d}" + (f"_{part:08d}" if part else ""))


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest, once it and all files are proved to be as they were written."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        digest = manifest.pop("digest")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise _damaged(path, f"{MANIFEST} cannot be read") from error
    if digest != _text_digest(manifest):
        raise _damaged(path, f"{MANIFEST} is not as it was written")
    _check_form(path, manifest)
    found = _file_digests(path)
    found.pop(MANIFEST)
    for name, sha in manifest["files"].items():
        if name not in found:
            raise _damaged(path, f"{name} is missing")
        if found[name] != sha:
            raise _damaged(path, f"{name} is not as it was written")
    return manifest


def _check_form(path: Path, manifest: dict[str, Any]) -> None:
    """Refuses what another version wrote in another form."""
    version = sys.modules["metahpo"].__version__
    written_by = manifest.get("metahpo")
    form = {"rounds_done": int, "part": int, "run": dict, "files": dict}
    known = all(isinstance(manifest.get(name), kind) for name, kind in form.items())
    if not known or _numbers(written_by) > _numbers(version):
        raise ValueError(
            f"the checkpoint {str(path)!r} is of metahpo {written_by}, this is {version}, which "
            "cannot read it"
        )


def _numbers(version: Any) -> tuple[int, ...]:
    """Of a version, so that versions have an order."""
    return tuple(int(part) for part in re.findall(r"\d+", str(version))[:3])


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(
        f"the checkpoint {str(path)!r} is damaged: {what}; it was left as it is (move it away to "
        "go on from the one before, if there is one)"
    )


def check_same_run(what: str, found: Fingerprint, mark: Fingerprint) -> None:
    """Raises ``ValueError`` if what was found is of another run."""
    for name, wanted in json.loads(json.dumps(mark)).items():
        if found.get(name) == wanted:
            continue
        why = {
            "rounds": f"it has {found.get('rounds')} rounds, this run has {mark['rounds']}",
            "key": "its key is another",
            "start": "its initial state (task, hyperparameters, strategy) is another",
            "leaves": _first_difference(found.get("leaves", []), mark["leaves"]),
            "about": f"it is {found.get('about')!r}, this run is {mark['about']!r}",
            "program": (
                "it computes something else (the space, the problem, its steps or tasks, a setting "
                "of the strategy, the estimator or the optimiser, or the version of JAX differs)"
            ),
        }
        raise ValueError(f"{what} is of another run: {why[name]}")


def _first_difference(found: list[str], wanted: list[str]) -> str:
    pairs = zip(found, wanted, strict=False)
    there, here = next(((a, b) for a, b in pairs if a != b), (f"{len(found)}", f"{len(wanted)}"))
    return f"its state has {there} where this run has {here}"


def _describe(tree: PyTree) -> list[str]:
    """One line a leaf: its path, type and shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [
        f"{jax.tree_util.keystr(path)} {jnp.result_type(x)}{list(np.shape(x))}"
        for path, x in leaves
    ]


def _raw(leaf: Any) -> np.ndarray:
    """The numbers of a leaf on the host; those of a typed key are its key data."""
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    return np.asarray(jax.device_get(leaf))


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _like(leaf: Any, array: np.ndarray | None) -> Any:
    if array is None:  # it has no elements
        return leaf
    return (
        jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        if _is_key(leaf)
        else array
    )


def _digest(leaves: list[Any]) -> str:
    sha = hashlib.sha256()
    for leaf in leaves:
        sha.update(array_bytes(leaf))
    return sha.hexdigest()


def _text_digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _file_digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                sha = hashlib.file_digest(file, "sha256")
            digests[path.relative_to(folder).as_posix()] = sha.hexdigest()
    return digests


def _prune(folder: Path) -> None:
    """Removes old checkpoints, and what killed processes left unfinished."""
    complete = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    unfinished = [path for path in folder.iterdir() if path.name.startswith(_UNFINISHED)]
    for path in [*complete[:-KEEP], *unfinished]:
        # A removal that is cut short must not leave half of a checkpoint under its name.
        doomed = folder / f"{_UNFINISHED}{path.name.removeprefix(_UNFINISHED)}"
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def _checkpointer() -> Iterator[tuple[Any, Any]]:
    """Orbax and a synchronous checkpointer, without its notes in the log."""
    ocp = require("orbax.checkpoint", "checkpoint")
    # One process of several writes or reads, and must not wait for the others.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    checkpointer = ocp.Checkpointer(handler, multiprocessing_options=alone)
    with _quiet():
        try:
            yield ocp, checkpointer
        finally:
            checkpointer.close()


class _Quiet:
    """Mutes loggers while some thread is within."""

    def __init__(self, *names: str) -> None:
        self._loggers = [logging.getLogger(name) for name in names]
        self._lock, self._within, self._levels = threading.Lock(), 0, [0] * len(names)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._within == 0:
                self._levels = [logger.level for logger in self._loggers]
                for logger in self._loggers:
                    logger.setLevel(logging.CRITICAL)
            self._within += 1
        try:
            yield
        finally:
            with self._lock:
                self._within -= 1
                if self._within == 0:
                    for logger, level in zip(self._loggers, self._levels, strict=True):
                        logger.setLevel(level)


_quiet = _Quiet("absl", "asyncio")
