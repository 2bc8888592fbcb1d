"""What a search leaves: an ensemble of fitted members that predicts."""

from typing import Any, NamedTuple

import numpy as np

from metahpo.automl.models import FAMILIES
from metahpo.automl.models.family import Family, Task
from metahpo.automl.preprocessing import Statistics
from metahpo.automl.programs import predicting
from metahpo.automl.tables import buckets
from metahpo.automl.tables.padding import Rows, Table, pad_rows
from metahpo.base import PyTree


class Member(NamedTuple):
    """One of an ensemble.

    Attributes:
        family: the name of its family.
        weight: its share of the predictions.
        hparams: its hyperparameters.
        loss: of its out-of-fold predictions.
        weights: arrays ``[1, F, ...]``.
    """

    family: str
    weight: float
    hparams: Any
    loss: float
    weights: PyTree


class Model(NamedTuple):
    """An ensemble; each of its members is the mean of one model a fold.

    Attributes:
        task: what shapes the programs.
        members: with the sum of weights 1.
        statistics: of the features, by transform.
        table: that it was trained on; without its rows where no member needs them.
    """

    task: Task
    members: tuple[Member, ...]
    statistics: dict[str, Statistics]
    table: Table


def without_rows(table: Table) -> Table:
    """The masks of a table, and the rows of the least bucket, empty.

    Example:
        >>> from metahpo.automl.tables import pad
        >>> ones = np.ones(300)
        >>> table = pad(np.ones((300, 2)), np.ones((300, 0)), ones, ones, ones, 1)
        >>> table.rows.x.shape, without_rows(table).rows.x.shape
        ((512, 8), (256, 8))
    """
    size = buckets.rows(1)

    def cut(a: np.ndarray) -> np.ndarray:
        return np.zeros_like(np.asarray(a)[:size])

    return table._replace(
        rows=Rows(*map(cut, table.rows)),
        y=cut(table.y),
        weight=cut(table.weight),
        fold=np.full(size, -1, np.int32),
    )


def predict(model: Model, x: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """``f64[n, P]``: chances of the padded classes, or numbers, of encoded rows."""
    parts = []
    for start in range(0, len(x), buckets.CHUNK):
        stop = min(start + buckets.CHUNK, len(x))
        rows = pad_rows(x[start:stop], codes[start:stop])
        parts.append(_mixed(model, rows)[: stop - start])
    return np.concatenate(parts)


def _mixed(model: Model, rows: Rows) -> np.ndarray:
    total = np.zeros(())
    for member in model.members:
        family = family_of(member.family)
        run = predicting(family, model.task)
        out = run(member.weights, model.statistics[family.transform], model.table, rows)
        total = total + member.weight * np.asarray(out, np.float64)
    return total


def family_of(name: str) -> Family:
    """A family by its name."""
    return FAMILIES[name]
