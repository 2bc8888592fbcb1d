"""All candidates of a run as rows, in the units of their space."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from metahpo import space as spaces
from metahpo._files import atomic_write
from metahpo.report.files import PathLike

Row = dict[str, Any]


def candidates(space: spaces.Space, result: Any) -> list[Row]:
    """The candidates of a run that were evaluated, in their order.

    Args:
        space: that was searched.
        result: a ``SearchResult`` or ``MinimizeResult`` of one run, or its ``history``.

    Returns:
        One dictionary a candidate: ``round``, ``member``, ``parent`` (-1 from scratch), ``steps``,
        ``loss`` (infinite where it was not finite), then its hyperparameters by their names,
        choices as their values and floats in double precision; of a ``OneOf`` the branch's name,
        and ``None`` for what belongs to other branches.  ``pandas.DataFrame(rows)`` is a
        data frame of them.

    Raises:
        ValueError: for results of several runs side by side, or of another space.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0), "kind": mh.Choice(("a", "b"))}
        >>> strategy = mh.strategies.random(space, population=2)
        >>> result = mh.minimize(lambda h: h["x"] ** 2, space, strategy, rounds=3)
        >>> rows = candidates(space, result)
        >>> len(rows), list(rows[0])
        (6, ['round', 'member', 'parent', 'steps', 'loss', 'kind', 'x'])
    """
    history = getattr(result, "history", result)
    loss = np.asarray(history.loss)
    if loss.ndim != 2:
        raise ValueError(
            "candidates are those of one run: index the results of several runs first, got losses "
            f"of shape {loss.shape} where [rounds, population] was expected"
        )
    unit = np.asarray(history.unit)
    if unit.shape[-1] != spaces.size(space):
        raise ValueError(
            f"the run searched {unit.shape[-1]} coordinates, but the space has {spaces.size(space)}"
        )
    budget, parent = np.asarray(history.budget), np.asarray(history.parent)
    rounds, members = np.nonzero(budget > 0)
    if not len(rounds):
        return []
    hparams = spaces.decoder(space)(unit[rounds, members])
    names = spaces.names(space)
    rows = []
    for i, (t, m) in enumerate(zip(rounds.tolist(), members.tolist(), strict=True)):
        own = dict.fromkeys(names) | spaces.by_name(space, hparams[i])
        known = {
            "round": t,
            "member": m,
            "parent": int(parent[t, m]),
            "steps": int(budget[t, m]),
            "loss": float(loss[t, m]),
        }
        clash = known.keys() & own.keys()
        taken = [f"{name} (hyperparameter)" if name in clash else name for name in own]
        rows.append(known | dict(zip(taken, own.values(), strict=True)))
    return rows


def save_csv(path: PathLike, rows: Sequence[Row]) -> None:
    """Writes rows such as those of ``candidates`` as CSV, with the names in the first line.

    Args:
        path: the file; its folder is made where it is missing.
        rows: dictionaries with the same names.

    Raises:
        ValueError: for rows with other names than the first.
        OSError: if the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "candidates.csv"
        >>> save_csv(path, [{"loss": 0.5, "kind": "a"}])
        >>> path.read_text().splitlines()
        ['loss,kind', '0.5,a']
    """
    text = io.StringIO(newline="")
    names = list(rows[0]) if rows else []
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        if list(row) != names:
            raise ValueError(f"all rows must have the names {names}, got {list(row)}")
        writer.writerow({name: _cell(value) for name, value in row.items()})
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _cell(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
