"""The history of a run as a study of Optuna, for its plots, its importances and its dashboard."""

from typing import Any

import jax
import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from metahpo import checks
from metahpo import space as spaces
from metahpo.integrations.optuna import distributions as dist
from metahpo.run import MinimizeResult, SearchHistory, SearchResult


def to_study(
    result: SearchResult | MinimizeResult,
    space: spaces.Space,
    *,
    storage: str | BaseStorage | None = None,
    study_name: str | None = None,
) -> optuna.Study:
    """Puts a history into a new study of Optuna, one trial an evaluation.

    Parameters are called as in ``mh.space.dimensions``: nested names with dots, entries of a shape
    as ``x[0]``.  A trial has those of the branches that it chose, and no others; a constant is
    categorical, with one value, and so is an ordered choice, as Optuna has no other distribution
    for it.  Evaluations whose loss was not finite are failed trials.  A trial's user attributes are
    its ``round``, ``member``, ``steps`` and, where it went on from a training,
    ``parent``.

    Args:
        result: of ``mh.search``, ``mh.run.drive`` or ``mh.minimize``, of one run.
        space: that was searched.
        storage: where Optuna keeps the study, such as ``"sqlite:///study.db"``; in memory without.
        study_name: a name that the storage has not; Optuna makes one without.

    Returns:
        The study, which minimises.

    Raises:
        ValueError: for something else than a result, several runs in one, or another space.

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0), "y": mh.Int(0, 3)}
        >>> strategy = mh.strategies.sobol(space, population=8)
        >>> result = mh.minimize(
        ...     lambda h: h["x"] ** 2 + h["y"], space, strategy, rounds=4, progress=False
        ... )
        >>> study = to_study(result, space)
        >>> len(study.trials), study.best_value == result.best_loss
        (32, True)
    """
    if not isinstance(result, SearchResult | MinimizeResult):
        checks.record("result", result, SearchResult, "mh.search")
    history = jax.device_get(result.history)
    if history.loss.ndim != 2:
        raise ValueError(
            "a study holds one run, whose losses have the axes [rounds, P]; got the shape "
            f"{history.loss.shape}: take one run out with jax.tree.map(lambda x: x[i], result)"
        )
    if history.unit.shape[-1] != spaces.size(space):
        raise ValueError(
            f"the space must be the one that was searched: it has {spaces.size(space)} dimensions, "
            f"the history {history.unit.shape[-1]}"
        )
    study = optuna.create_study(storage=storage, study_name=study_name)
    study.add_trials(_trials(history, space))
    return study


def _trials(history: SearchHistory, space: spaces.Space) -> list[FrozenTrial]:
    distributions = _distributions(space)
    places = np.argwhere(history.budget > 0)
    units = history.unit[tuple(places.T)]
    members = spaces.decoder(space)(units) if len(units) else []
    trials = []
    for (t, slot), hparams in zip(places.tolist(), members, strict=True):
        loss, steps = float(history.loss[t, slot]), int(history.budget[t, slot])
        broken = bool(history.nonfinite[t, slot]) or not np.isfinite(loss)
        attributes = {"round": t, "member": slot, "steps": steps}
        if (parent := int(history.parent[t, slot])) >= 0:
            attributes["parent"] = parent
        params = _named(space, distributions, hparams)
        trials.append(
            create_trial(
                state=TrialState.FAIL if broken else TrialState.COMPLETE,
                value=None if broken else loss,
                params=params,
                distributions={name: distributions[name] for name in params},
                user_attrs=attributes,
            )
        )
    return trials


def _distributions(space: spaces.Space) -> dict[str, BaseDistribution]:
    return {
        name + place: dist.distribution_of(dim)
        for name, dim in zip(spaces.names(space), jax.tree.leaves(space), strict=True)
        for place, _ in _entries(dim)
    }


def _named(
    space: spaces.Space, distributions: dict[str, BaseDistribution], hparams: Any
) -> dict[str, Any]:
    """Hyperparameters as ``readable`` gives them, by the names of their coordinates."""
    params = {}
    dims = dict(zip(spaces.names(space), jax.tree.leaves(space), strict=True))
    for name, leaf in spaces.by_name(space, hparams).items():
        dim = dims[name]
        for place, index in _entries(dim):
            value = leaf
            for i in index:
                value = value[i]
            if isinstance(dim, spaces.Choice):
                value = dist.shown(value)
            params[name + place] = dist.fitted(distributions[name + place], value)
    return params


def _entries(leaf: Any) -> list[tuple[str, tuple[int, ...]]]:
    """The names of the entries of an array, and where they are."""
    shape = () if isinstance(leaf, spaces.Constant) else leaf.shape
    return [("".join(f"[{i}]" for i in index), index) for index in np.ndindex(shape)]
