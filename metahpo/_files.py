"""Folders and files that a run writes: checked at the start, never left half written."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

CLAIM = ".claimed"
"""The file that a process holds while it works in a folder."""


def writable_folder(path: str | os.PathLike[str]) -> Path:
    """Makes the folder where it is missing and proves that files can be written in it.

    Args:
        path: the folder.

    Returns:
        Its absolute path.

    Raises:
        ValueError: if it cannot be made or nothing can be written there, or is a URL; the message
            has the path.

    Example:
        >>> writable_folder(tempfile.gettempdir()).is_absolute()
        True
    """
    folder = local(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Mode bits do not tell for root, for read-only mounts or for full disks: try it.
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"metahpo")
    except OSError as error:
        raise ValueError(
            f"the output folder must be writable, got {str(folder)!r}: {error.strerror or error}"
        ) from error
    return folder


def local(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a file or folder of this machine.

    Raises:
        ValueError: for a URL, which would become a folder of that name.
    """
    if "://" in os.fspath(path):
        raise ValueError(f"files must be of this machine, got the URL {os.fspath(path)!r}")
    return Path(path).expanduser().absolute()


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within, no other process that asks has the folder; a process that dies lets go of it.

    Raises:
        ValueError: if another process has it now.
    """
    try:
        import fcntl
    except ImportError:  # Windows: nobody is kept out
        yield
        return
    path = folder / CLAIM
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed it in between; then this lock keeps nobody out.
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise BlockingIOError
        except OSError as error:
            raise ValueError(f"another process is at work in the folder {str(folder)!r}") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Opens a file that appears under its name only when it is complete.

    The bytes go to a temporary file beside it, which takes the name in one rename; after an error
    nothing is left and a file that was there before stays as it was.  Missing folders are made.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "results" / "note.txt"
        >>> with atomic_write(path) as file:
        ...     _ = file.write(b"done")
        >>> path.read_text()
        'done'
    """
    target = local(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name that nobody can guess, and that must be new: not another thread's, nor a link of
    # somebody else's that leads elsewhere.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
