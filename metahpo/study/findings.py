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
        pictures: by file name, what draws the picture: ``(path) -> ...``.
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
    if not found.pictures:
        return
    try:
        require("matplotlib", "plot")
    except ImportError as error:
        print(f"no pictures: {error}")
        return
    for name, draw in found.pictures.items():
        draw(out / name)
