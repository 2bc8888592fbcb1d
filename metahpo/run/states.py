"""The states that trainings go on from: pickled, one for each candidate that may go on."""

import pickle
import re
from collections.abc import Collection
from pathlib import Path

from metahpo._files import atomic_write
from metahpo.run.folders import STATES

FROM_SCRATCH = pickle.dumps(None)


class States:
    """States in memory, or as files ``states/00000012.pkl`` of a run's folder.

    They are pickled in memory, too, so that a training that goes on from one cannot change it.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder / STATES
        self._kept: dict[int, bytes] = {}

    def of(self, number: int | None) -> bytes:
        """That of a candidate; without one, from scratch.

        Raises:
            ValueError: if its file is missing.
        """
        if number is None:
            return FROM_SCRATCH
        if self._folder is None:
            return self._kept[number]
        try:
            return self._path(self._folder, number).read_bytes()
        except FileNotFoundError as error:
            raise ValueError(
                f"the state of candidate {number}, which a training goes on from, is missing: "
                f"{error.filename!r}"
            ) from error

    def keep(self, number: int, state: bytes) -> None:
        """Keeps one more."""
        if self._folder is None:
            self._kept[number] = state
            return
        with atomic_write(self._path(self._folder, number)) as file:
            file.write(state)

    def forget_all_but(self, numbers: Collection[int]) -> None:
        """Removes those that nobody goes on from."""
        self._kept = {n: state for n, state in self._kept.items() if n in numbers}
        if self._folder is None or not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            name = re.fullmatch(r"\.?(\d{8,})\.pkl(?:\..*\.tmp)?", path.name)
            if name and (int(name[1]) not in numbers or path.suffix == ".tmp"):
                path.unlink(missing_ok=True)

    @staticmethod
    def _path(folder: Path, number: int) -> Path:
        return folder / f"{number:08d}.pkl"
