"""The folder of a run on the host: its own, and empty where the run is new."""

import os
from collections.abc import Callable
from pathlib import Path

from metahpo._files import CLAIM, writable_folder

STATES = "states"
"""The folder within that has the states of trainings."""


def prepared(
    directory: str | os.PathLike[str],
    resume: bool,
    what: str,
    is_one: Callable[[str], bool],
    is_litter: Callable[[str], bool] = lambda name: False,
) -> Path:
    """Makes a folder ready for a run.

    Args:
        directory: made where it is missing.
        resume: whether the run in it goes on.
        what: the run keeps in it, for messages.
        is_one: whether a name is that of such a thing.
        is_litter: whether a name is of something left behind that does not matter.

    Returns:
        The absolute path.

    Raises:
        ValueError: if the folder is not writable, holds anything although ``resume`` is false, or
            holds something but nothing to go on from although ``resume`` is true.
    """
    folder = writable_folder(directory)
    names = sorted(path.name for path in folder.iterdir())
    found = [name for name in names if name not in (CLAIM, STATES) and not is_litter(name)]
    if found and not resume:
        raise ValueError(
            f"a new run needs an empty folder, but {str(folder)!r} holds {found[0]!r}; "
            "resume=True goes on with the run that is there"
        )
    if found and not any(is_one(name) for name in found):
        raise ValueError(f"there is no {what} of a run in {str(folder)!r}, only {found[:3]}")
    return folder
