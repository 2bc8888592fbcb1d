"""Members trained once more, on all rows."""

from collections.abc import Sequence

import jax
import numpy as np

from metahpo.automl.metrics import Metric
from metahpo.automl.model import Model, family_of
from metahpo.automl.preprocessing import Statistics
from metahpo.automl.programs import fitting
from metahpo.automl.tables.padding import Table


def refit(
    seed: int, model: Model, units: Sequence[np.ndarray], table: Table, metric: Metric
) -> Model:
    """The same ensemble, each member one model of all rows in place of one a fold.

    All rows are a fold more, the first, in which none validates.  It is trained beside the others,
    so that a family that stops early stops by their validation rows, all together, as before.

    Args:
        seed: of the training.
        model: an ensemble.
        units: ``f[D]`` of each of its members, their hyperparameters in the unit cube.
        table: that it was trained on, whole.
        metric: that decides.
    """
    shifted = table._replace(fold=np.where(table.fold < 0, -1, table.fold + 1).astype(np.int32))
    task = model.task._replace(folds=model.task.folds + 1)
    members, statistics = [], {}
    for place, (member, unit) in enumerate(zip(model.members, units, strict=True)):
        family = family_of(member.family)
        key = jax.random.fold_in(jax.random.key(seed), place)
        fitted = jax.device_get(fitting(family, task, metric)(key, unit[None], shifted))
        weights = jax.tree.map(lambda a: np.array(a[:, :1]), fitted.weights)
        members.append(member._replace(weights=weights))
        statistics[family.transform] = Statistics(*(a[:1] for a in fitted.statistics))
    task = task._replace(folds=1)
    return Model(task, tuple(members), dict(sorted(statistics.items())), shifted)
