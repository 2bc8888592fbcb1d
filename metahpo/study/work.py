"""A study under way: each of its parts is kept in the results folder as soon as it is finished."""

import json
import sys
import time
import zipfile
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from metahpo import report
from metahpo._files import writable_folder
from metahpo.base import Key
from metahpo.run import Loop, drive

SETTINGS_FILE = "settings.json"
_SECONDS = "seconds taken"

Name = TypeVar("Name", bound=Hashable)
Part = TypeVar("Part")


class Work:
    """Computes the parts of a study, or takes those that are finished from the results folder.

    Args:
        out: the results folder, from ``prepare``; without one nothing is kept.
        shown: whether to tell on the standard error stream how far the work is.

    Example:
        >>> work = Work()
        >>> work.each(["two", "three"], lambda name: {"letters": len(name)})["three"]["letters"]
        np.int64(5)
    """

    def __init__(self, out: Path | None = None, shown: bool = False) -> None:
        self.out, self.shown = out, shown
        self._start, self._before = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Since the start, with what parts taken from the folder had needed; to a tenth."""
        return round(self._before + time.perf_counter() - self._start, 1)

    def kept(self) -> list[str]:
        """The names of the parts that the results folder holds."""
        return [] if self.out is None else sorted(p.stem for p in self.out.glob("parts/*.npz"))

    def each(
        self,
        names: Iterable[Name],
        compute: Callable[[Name], Any],
        kind: Callable[..., Part] = dict,  # type: ignore[assignment]
    ) -> dict[Name, Part]:
        """Parts by name, one after another; each is written to ``parts/NAME.npz``.

        Args:
            names: strings or numbers, or tuples of them.
            compute: ``(name) -> part``, a mapping or a ``NamedTuple`` of arrays and numbers.
            kind: what makes a part of arrays by name: the ``NamedTuple``, or ``dict``.

        Returns:
            The parts, of numpy arrays and numpy numbers, whether they were computed or kept.

        Raises:
            ValueError: for a damaged file, which is left alone, or a name that no file can have.
        """
        names = list(names)
        found = {}
        for count, name in enumerate(names, 1):
            label = _label(name)
            found[name] = self._part(label, f"{count}/{len(names)} {label}", name, compute, kind)
        return found

    def each_seed(
        self,
        names: Iterable[Name],
        seeds: int,
        compute: Callable[[Name, int], Any],
        kind: Callable[..., Part] = dict,  # type: ignore[assignment]
    ) -> dict[Name, Part]:
        """Parts by name, of several seeds each, which are kept one by one.

        Args:
            names: as for ``each``.
            seeds: 0 ... ``seeds - 1`` are computed.
            compute: ``(name, seed) -> part``.
            kind: as for ``each``.

        Returns:
            By name, the seeds' arrays stacked: a leading axis ``[seeds]``.

        Example:
            >>> Work().each_seed(["two"], 3, lambda name, seed: {"x": seed})["two"]["x"]
            array([0, 1, 2])
        """
        names = list(names)
        pairs = [(name, seed) for name in names for seed in range(seeds)]
        parts = self.each(pairs, lambda pair: compute(*pair), kind)
        return {
            name: jax.tree.map(lambda *x: np.stack(x), *(parts[name, i] for i in range(seeds)))
            for name in names
        }

    def drive(self, loop: Loop, key: Key, name: str) -> tuple[Any, float]:
        """``run.drive`` of a long training, with its checkpoints in ``checkpoints/NAME``.

        Needs the extra ``checkpoint`` where there is a results folder.

        Returns:
            The result, and the seconds that it took, with those before an interruption.
        """
        begin = time.perf_counter()
        if self.out is None:
            result = drive(loop, key, progress=self.shown, name=name)
            return jax.block_until_ready(result), time.perf_counter() - begin
        folder = self.out / "checkpoints" / name
        clock = folder.with_name(f"{name}.json")
        before = report.load_json(clock) if clock.exists() else 0.0

        def taken() -> float:
            return before + time.perf_counter() - begin

        result = drive(
            loop,
            key,
            directory=folder,
            resume=True,
            progress=self.shown,
            on_chunk=lambda *_: report.save_json(clock, taken()),
            name=name,
        )
        return jax.block_until_ready(result), taken()

    def _part(
        self,
        label: str,
        title: str,
        name: Name,
        compute: Callable[[Name], Any],
        kind: Callable[..., Part],
    ) -> Part:
        if "/" in label:
            raise ValueError(f"a part's name is that of a file, got {label!r}")
        path = None if self.out is None else self.out / "parts" / f"{label}.npz"
        if path is not None and path.exists():
            part, seconds = _loaded(path, kind)
            self._before += seconds
            self._tell(f"{title}: taken from the results folder")
            return part
        self._tell(title)
        begin = time.perf_counter()
        arrays = {name: np.asarray(leaf) for name, leaf in _fields(compute(name)).items()}
        seconds = time.perf_counter() - begin
        if path is not None:
            report.save_npz(path, arrays | {_SECONDS: seconds})
        self._tell(f"{title}: {seconds:.1f} s")
        return _made(kind, arrays)

    def _tell(self, text: str) -> None:
        if self.shown:
            print(text, file=sys.stderr, flush=True)


def prepare(out: Path, settings: Mapping[str, Any], resume: bool) -> Path:
    """Makes the results folder, or checks that the run in it is this one.

    Args:
        out: the folder.
        settings: what decides the results, as JSON; a run that is resumed must have the same.
        resume: whether the run in the folder goes on.

    Returns:
        Its absolute path.

    Raises:
        ValueError: for a folder that cannot be written, is not empty (without ``resume``), or
            holds something else or a run with other settings (with it).
    """
    out = writable_folder(out)
    path = out / SETTINGS_FILE
    wanted = json.loads(json.dumps(settings))
    if resume and path.exists():
        try:
            found = dict(report.load_json(path))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        if found != wanted:
            differ = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
            raise ValueError(
                f"{out} holds another run, so it cannot be resumed: "
                + ", ".join(f"{k} is {found.get(k)} there, {wanted.get(k)} here" for k in differ)
            )
        return out
    if any(out.iterdir()):
        rule = f"has no {SETTINGS_FILE} to resume from" if resume else "is not empty (see --resume)"
        raise ValueError(f"the output folder {out} {rule}")
    report.save_json(path, wanted)
    return out


def _label(name: Hashable) -> str:
    return "-".join(map(_label, name)) if isinstance(name, tuple) else str(name)


def _loaded(path: Path, kind: Callable[..., Part]) -> tuple[Part, float]:
    try:
        arrays = report.load_npz(path)
        seconds = float(arrays.pop(_SECONDS))
        return _made(kind, arrays), seconds
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is damaged: {error}; delete it to compute this part again"
        ) from error


def _fields(part: Any) -> dict[str, Any]:
    return part._asdict() if hasattr(part, "_asdict") else dict(part)


def _made(kind: Callable[..., Part], arrays: Mapping[str, np.ndarray]) -> Part:
    # An array without axes becomes the number that it holds.
    return kind(**{name: array[()] for name, array in arrays.items()})
