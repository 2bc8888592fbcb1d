"""What past tasks suggest for a table of a user's own, in words and numbers."""

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from metahpo import space as spaces
from metahpo.transfer.conditioned import conditioned_portfolio
from metahpo.transfer.describe import NAMES, describe
from metahpo.transfer.experience import Experience

GAPS = ("", "?", "NA", "NaN", "nan", "null", "None")
"""What stands for a missing value in a file."""


def advise(x: Any, y: Any, experience: Experience, k: int = 4) -> dict[str, Any]:
    """The conditioned portfolio of a task, with what is expected of it.

    Args:
        x: ``[N, F]`` and
        y: ``[N]``, as for ``describe``.
        experience: of past tasks, with descriptors that ``describe`` has.
        k: how many configurations.

    Returns:
        A dict: ``suggestions``, a list of mappings with the hyperparameters in their units, the
        expected ``regret`` and the ends ``low`` and ``high`` of its 90 % interval; ``distance``,
        how unlike the past tasks this one is; ``descriptors``, whether they are ``"believed"`` or
        ``"not believed"``; ``tasks``, how many there are in the experience.

    Raises:
        ValueError: if the experience has descriptors that ``describe`` does not know, or is of
            classification and the task of regression, or the other way round.

    Example:
        >>> import metahpo as mh
        >>> rows = [{"n_rows": 10.0 * i, "n_classes": 2.0} for i in range(1, 9)]
        >>> past = mh.transfer.experience(
        ...     {"x": mh.Choice(("a", "b"))}, rows, [{"x": "a"}, {"x": "b"}], [[0.1, 0.3]] * 8
        ... )
        >>> found = advise(np.eye(4), np.arange(4) % 2, past, k=1)
        >>> found["suggestions"][0]["x"], found["tasks"]
        ('a', 8)
    """
    if unknown := [name for name in experience.names if name not in NAMES]:
        raise ValueError(
            f"the experience must have descriptors of mh.transfer.describe, not so: {unknown[:4]}"
        )
    described = describe(x, y)
    descriptor = {name: described[name] for name in experience.names}
    _check_kind(descriptor, experience)
    fitted = conditioned_portfolio().fit(experience)
    numbers = fitted.numbers(descriptor, k)
    outcome = fitted.distribution(descriptor)
    outcome = outcome._replace(values=outcome.values[numbers])
    ends = zip(outcome.mean.tolist(), *(end.tolist() for end in outcome.interval()), strict=True)
    suggestions = [
        {**spaces.by_name(experience.space, hparams), "regret": mean, "low": low, "high": high}
        for hparams, (mean, low, high) in zip(experience.hparams(numbers), ends, strict=True)
    ]
    believed = bool(fitted.memory.state.is_open)
    return {
        "suggestions": suggestions,
        "distance": fitted.distance(descriptor),
        "descriptors": "believed" if believed else "not believed",
        "tasks": len(experience.tasks),
    }


def _check_kind(descriptor: dict[str, float], experience: Experience) -> None:
    """Only classification has classes: whether they are known tells one from the other."""
    if "n_classes" not in descriptor:
        return
    past = ~np.isnan(experience.descriptors[:, experience.names.index("n_classes")])
    own = not np.isnan(descriptor["n_classes"])
    if not (past == own).any():
        kinds = ("classification", "regression")
        there, here = kinds if past.all() else kinds[::-1]
        raise ValueError(f"the experience is of {there}, this task is one of {here}")


def read_csv(path: str | os.PathLike[str], target: str) -> tuple[np.ndarray, np.ndarray]:
    """A table with a line of names: ``(x object[N, F], y [N])``, numbers where a column has them.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: without the target's column, without rows, or for a row of another length.
    """
    columns = read_columns(path, needs=target)
    y = columns.pop(target)
    if not columns:
        raise ValueError(f"{os.fspath(path)} must have columns beside {target!r}")
    whole = all(isinstance(value, float) for value in y)
    return np.stack(list(columns.values()), axis=1), y.astype(np.float64) if whole else y


def read_columns(path: str | os.PathLike[str], needs: str | None = None) -> dict[str, np.ndarray]:
    """A table with a line of names, by these: ``object[N]`` each, as in ``read_csv``.

    Args:
        path: of the file.
        needs: a column that must be there.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: without rows or the column, for two columns of one name, or a row of another
            length.
    """
    with Path(path).expanduser().open(newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if len(rows) < 2 or (needs is not None and needs not in rows[0]):
        wanted = "names" if needs is None else f"names with {needs!r}"
        raise ValueError(
            f"{os.fspath(path)} must have a line of {wanted} and rows behind it, "
            f"got the names {rows[0] if rows else []}"
        )
    head = rows[0]
    if twice := sorted({name for name in head if head.count(name) > 1}):
        raise ValueError(f"{os.fspath(path)} must have different names, got {twice} twice")
    if odd := [i for i, row in enumerate(rows[1:], 2) if len(row) != len(head)]:
        raise ValueError(f"{os.fspath(path)}: line {odd[0]} must have {len(head)} values")
    values = zip(*rows[1:], strict=True)
    return {name: _column(list(column)) for name, column in zip(head, values, strict=True)}


def _column(values: list[str]) -> np.ndarray:
    """``object[N]``: numbers if all are, texts otherwise, ``None`` where there is nothing."""
    known = [None if value.strip() in GAPS else value.strip() for value in values]
    try:
        found: list[Any] = [None if value is None else float(value) for value in known]
    except ValueError:
        found = list(known)
    column = np.empty(len(found), object)
    column[:] = found
    return column
