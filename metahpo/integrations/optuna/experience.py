"""Studies of Optuna as experience: what was tuned with it helps to tune what comes next."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from metahpo.integrations.optuna import distributions as dist
from metahpo.space import Dimension
from metahpo.transfer import Experience, experience

ENDED = (TrialState.COMPLETE, TrialState.FAIL)


def to_experience(
    studies: Mapping[str, optuna.Study],
    descriptors: Any,
    names: Sequence[str] | None = None,
) -> Experience:
    """Experience of studies of the same search space, one of each task.

    Args:
        studies: by the task's name; values of those that maximise are negated.
        descriptors: of the tasks in their order, as for ``mh.transfer.experience``.
        names: of the descriptors.

    Returns:
        An ``Experience`` in the space of the trials' distributions.  Failed trials are failures;
        those that run, wait or were pruned are left out, and so are trials without all parameters.

    Raises:
        ValueError: for a study of several objectives, or one without a complete trial, or if a
            parameter has another distribution in another trial.

    Example:
        >>> import optuna
        >>> study = optuna.create_study()
        >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=4)
        >>> to_experience({"parabola": study}, [{"rows": 100}]).losses().shape
        (1, 4)
    """
    found = _distributions(studies)
    space: dict[str, Dimension] = {name: dist.dimension(one) for name, one in found.items()}
    rows, losses = [], []
    for study in studies.values():
        if len(study.directions) != 1:
            raise ValueError(f"a study must have one objective, got {study.study_name}")
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        ended = [t for t in study.trials if t.state in ENDED and t.params.keys() == space.keys()]
        rows.append([trial.params for trial in ended])
        values = [np.inf if t.value is None else sign * t.value for t in ended]
        losses.append(np.array(values, np.float64))
        if not np.isfinite(losses[-1]).any():
            raise ValueError(f"a study must have a complete trial, got {study.study_name}")
    return experience(space, descriptors, rows, losses, names=names, tasks=list(studies))


def _distributions(studies: Mapping[str, optuna.Study]) -> dict[str, BaseDistribution]:
    """Of the parameters of all trials."""
    found: dict[str, BaseDistribution] = {}
    for study in studies.values():
        for trial in study.trials:
            for name, one in trial.distributions.items():
                if found.setdefault(name, one) != one:
                    raise ValueError(
                        f"parameters must have the same distribution in all trials, {name} has "
                        f"{found[name]} and {one}"
                    )
    return found
