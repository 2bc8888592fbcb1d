"""What a model's predictions rest on."""

from typing import Any

import numpy as np

from metahpo import report
from metahpo.automl import tables
from metahpo.automl.tables.columns import Columns


def importances(model: Any, x: Any, y: Any, repeats: int, seed: int) -> list[dict[str, Any]]:
    """Permutation importances; see ``Classifier.explain``.

    Source: Breiman, "Random forests" (2001).
    """
    columns = tables.read(x)
    judge = model._judge
    target, weight, classes = model._judged(y, columns.rows)
    generator = np.random.default_rng(seed)

    def loss(columns: Columns) -> float:
        out = model._raw(columns)
        return float(judge.loss(out, target, weight, classes))

    whole = loss(columns)
    orders = [generator.permutation(columns.rows) for _ in range(repeats)]
    rows = []
    for place, name in enumerate(columns.names):
        values = list(columns.values)
        rises = []
        for order in orders:
            values[place] = columns.values[place][order]
            rises.append(loss(columns._replace(values=tuple(values))) - whole)
        rows.append({"column": name, "importance": report.interval(rises)})
    return sorted(rows, key=lambda row: -float(row["importance"].mean))
