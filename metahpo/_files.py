"""Folders and files that a run writes: checked at the start, never left half written."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def writable_folder(path: str | os.PathLike[str]) -> Path:
    """Makes the folder where it is missing and proves that files can be written in it.

    Args:
        path: the folder.

    Returns:
        Its absolute path.

    Raises:
        ValueError: if it cannot be made or nothing can be written there; the message has the path.

    Example:
        >>> writable_folder(tempfile.gettempdir()).is_absolute()
        True
    """
    folder = Path(path).expanduser().absolute()
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
    target = Path(path).expanduser().absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
