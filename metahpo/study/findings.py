"""What a study found, and the files that say it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from metahpo import report
from metahpo._extras import require
from metahpo._files import atomic_write
from metahpo.base import PyTree

Picture = Callable[[Any, Path], Any]
"""``(results, path) -> ...``: draws what ``results.json`` holds."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Findings(NamedTuple):
    """What a study found.

    Attributes:
        rows: of the table, one mapping each, as for ``report.table``.
        formats: of the table's numbers, by column name.
        settings: what stands in ``results.json`` among the settings, beside the study's size.
        notes: what stands there beside the settings and the rows.
        results: all of ``results.json``, where it is not settings, notes and rows.
        arrays: a pytree for ``arrays.npz``, which is left out without leaves.
        pictures: of what ``results.json`` does not hold, by file name: ``(path) -> ...``.
    """

    rows: Sequence[Mapping[str, Any]]
    formats: Mapping[str, str] = _NOTHING
    settings: Mapping[str, Any] = _NOTHING
    notes: Mapping[str, Any] = _NOTHING
    results: Mapping[str, Any] | None = None
    arrays: PyTree = ()
    pictures: Mapping[str, Callable[[Path], Any]] = _NOTHING


def write(out: Path, found: Findings, settings: Mapping[str, Any] = _NOTHING) -> None:
    """Writes ``results.json``, ``table.md``, ``arrays.npz`` and the pictures.

    Without matplotlib a line says what brings the pictures, and everything else is written.

    Args:
        out: the results folder.
        found: what there is to write.
        settings: the study's size.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp())
        >>> write(out, Findings([{"method": "grid", "loss": 0.25}]), {"seeds": 3})
        >>> report.load_json(out / "results.json")
        {'settings': {'seeds': 3}, 'rows': [{'method': 'grid', 'loss': 0.25}]}
    """
    results = found.results
    if results is None:
        results = {"settings": {**settings, **found.settings}, **found.notes, "rows": found.rows}
    report.save_json(out / "results.json", results)
    table = report.table(found.rows, formats=found.formats, style="markdown")
    with atomic_write(out / "table.md") as file:
        file.write(f"{table}\n".encode())
    if jax.tree.leaves(found.arrays):
        report.save_npz(out / "arrays.npz", found.arrays)
    if found.pictures and _can_draw():
        for name, draw in found.pictures.items():
            draw(out / name)


def redraw(out: Path, pictures: Mapping[str, Picture]) -> None:
    """Draws pictures of the ``results.json`` in a folder.

    Without matplotlib a line says what brings the pictures.

    Args:
        out: the results folder.
        pictures: by file name, what draws the picture: ``(results, path) -> ...``.

    Raises:
        ValueError: for a folder without ``results.json``, with a damaged one, or with one of
            another study.
    """
    if not pictures:
        return
    path = out / "results.json"
    if not path.exists():
        raise ValueError(f"there must be a results.json in {out} to draw pictures of")
    results = report.load_json(path)
    if _can_draw():
        for name, draw in pictures.items():
            try:
                draw(results, out / name)
            except KeyError as error:
                raise ValueError(f"{path} holds other results: {name} needs {error}") from error


def _can_draw() -> bool:
    try:
        require("matplotlib", "plot")
    except ImportError as error:
        print(f"no pictures: {error}")
        return False
    return True
