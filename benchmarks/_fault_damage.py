"""Files of finished and of interrupted runs, damaged in every way that a disk or a copy knows."""

import contextlib
import io
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import metahpo as mh
from benchmarks import _fault_runs as runs
from metahpo import report

ROUNDS = 5
DAMAGES = {"search": 130, "meta_train": 80, "minimize": 90, "arrays": 100, "compare": 100}

Damage = Callable[[random.Random, bytes], bytes | None]


def _flipped(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]


def _zeroed(draw: random.Random, data: bytes) -> bytes:
    at, length = draw.randrange(len(data)), draw.randrange(1, 4097)
    return data[:at] + bytes(len(data[at : at + length])) + data[at + length :]


def _doubled(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + data


WAYS: dict[str, Damage] = {
    "a bit flipped": _flipped,
    "zeros": _zeroed,
    "cut short": lambda draw, data: data[: draw.randrange(len(data))],
    "emptied": lambda draw, data: b"",
    "removed": lambda draw, data: None,
    "a part doubled": _doubled,
    "text in front": lambda draw, data: b"<html>404</html>\n" + data,
}


def counted(share: float = 1.0) -> tuple[Counter[str], list[str]]:
    """How damaged files end: ``refused`` by name, ``right`` result, or else, with what happened."""
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    for kind, count in DAMAGES.items():
        for what, end in _damaged(kind, max(1, round(count * share))):
            ends[end] += 1
            if end not in ("refused", "right"):
                wrong.append(f"{kind}, {what}: {end}")
    return ends, wrong


def _damaged(kind: str, count: int) -> Iterator[tuple[str, str]]:
    draw = random.Random(kind)
    make, read = _KINDS[kind]
    with tempfile.TemporaryDirectory() as parent:
        sound = Path(parent) / "sound"
        make(sound)
        expected = read(_copy(sound, Path(parent) / "copy"))
        for number in range(count):
            folder = _copy(sound, Path(parent) / f"damaged_{number}")
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            path = draw.choice([path for path in files if path.stat().st_size])
            way = draw.choice(list(WAYS))
            data = WAYS[way](draw, path.read_bytes())
            path.unlink() if data is None else path.write_bytes(data)
            what = f"{way} in {path.relative_to(folder)}"
            with contextlib.redirect_stderr(io.StringIO()):
                yield what, _end(read, folder, expected)
            shutil.rmtree(folder)


def _end(read: Callable[[Path], str], folder: Path, expected: str) -> str:
    try:
        found = read(folder)
    except ValueError as error:
        named = str(folder) in str(error)
        return "refused" if named else f"refused without its name: {error}"
    except FileNotFoundError as error:
        return "refused" if str(folder) in str(error) else f"{error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "right" if found == expected else "another result in silence"


def _copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def _driven(make: Callable[[int], mh.run.Loop]) -> tuple[Callable[[Path], Any], ...]:
    loop = make(ROUNDS)

    def begin(folder: Path) -> None:
        mh.run.drive(
            loop,
            jax.random.key(7),
            chunk=1,
            directory=folder,
            progress=False,
            on_chunk=lambda done, history: done == ROUNDS - 2,
        )

    def go_on(folder: Path) -> str:
        result = mh.run.drive(
            loop, jax.random.key(7), chunk=1, directory=folder, resume=True, progress=False
        )
        return runs.digest(result.history)

    return begin, go_on


def _minimized() -> tuple[Callable[[Path], Any], ...]:
    def begin(folder: Path) -> None:
        stop = mh.stopping.when(evaluations=6 * (ROUNDS - 2))
        mh.minimize(
            runs.cost,
            runs.SPACE,
            mh.strategies.differential_evolution(runs.SPACE, population=6),
            rounds=ROUNDS,
            seed=5,
            directory=folder,
            progress=False,
            stop=stop,
        )

    return begin, lambda folder: runs.digest(runs.minimized(folder, rounds=ROUNDS).history)


def _arrays() -> tuple[Callable[[Path], Any], ...]:
    rng = np.random.default_rng(0)
    weights = {"layer": {"w": rng.normal(size=(64, 32)), "b": rng.normal(size=32)}, "step": 7}

    def write(folder: Path) -> None:
        folder.mkdir()
        report.save_npz(folder / "weights.npz", weights)

    def read(folder: Path) -> str:
        return runs.digest(report.load_npz(folder / "weights.npz", like=weights))

    return write, read


def _compared() -> tuple[Callable[[Path], Any], ...]:
    arguments = runs.comparison() | {"progress": False}

    def begin(folder: Path) -> None:
        mh.compare(**arguments, directory=folder)

    def go_on(folder: Path) -> str:
        found = mh.compare(**arguments, directory=folder, resume=True)
        return runs.digest([outcome.trials.loss for outcome in found.values()])

    return begin, go_on


_KINDS = {
    "search": _driven(runs.search_loop),
    "meta_train": _driven(runs.meta_loop),
    "minimize": _minimized(),
    "arrays": _arrays(),
    "compare": _compared(),
}
