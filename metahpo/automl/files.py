"""A fitted estimator as one NPZ file of arrays and a text, without pickle."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from metahpo import report
from metahpo.automl.metrics import metric
from metahpo.automl.model import Member, Model
from metahpo.automl.models.family import Task
from metahpo.automl.preprocessing import Statistics
from metahpo.automl.search import Trial
from metahpo.automl.tables import Encoder, Rows, Rule, Table

VERSION = 1
_PLAIN = ("n_features_in_", "rounds_", "trainings_", "stopped_", "seconds_", "loss_")
_SOME = ("_mean", "_scale")
_ARRAYS = ("shares_", "out_of_fold_")


def save(path: str | os.PathLike[str], estimator: Any) -> None:
    """Writes what an estimator has learned; see its ``save``."""
    model: Model = estimator.model_
    params = estimator.get_params()
    params.pop("strategy")  # a function; what it found is there
    about = {
        "version": VERSION,
        "kind": type(estimator).__name__,
        "params": params,
        "judge": estimator._judge.name,
        "task": model.task._asdict(),
        "encoder": {
            "named": estimator._encoder.named,
            "rules": [rule._asdict() for rule in estimator._encoder.rules],
        },
        "members": [
            {k: v for k, v in member._asdict().items() if k != "weights"}
            for member in model.members
        ],
        "trials": [
            {"family": t.family, "hparams": t.hparams, "loss": t.loss, "round": t.round}
            for t in estimator.trials_
        ],
        "transforms": list(model.statistics),
        "attributes": {
            name: getattr(estimator, name) for name in _PLAIN + _SOME if hasattr(estimator, name)
        },
        "names": list(getattr(estimator, "feature_names_in_", ())),
    }
    arrays = {
        "about": np.array(json.dumps(about, default=_plain)),
        "members": {str(i): member.weights for i, member in enumerate(model.members)},
        "statistics": {name: found._asdict() for name, found in model.statistics.items()},
        "table": {**model.table._asdict(), "rows": model.table.rows._asdict()},
        "fold_loss": np.stack([trial.fold_loss for trial in estimator.trials_]),
        **{name: getattr(estimator, name) for name in _ARRAYS},
    }
    if hasattr(estimator, "classes_"):
        arrays["classes_"] = estimator.classes_
    report.save_npz(path, arrays)


def load(path: str | os.PathLike[str], kinds: Mapping[str, type[Any]]) -> Any:
    """Reads an estimator that was saved; ``kinds`` are the classes of estimators by name."""
    arrays = report.load_npz(path)
    try:
        about = json.loads(str(arrays["about"]))
        version = about["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)} holds no estimator of metahpo.automl") from error
    if version > VERSION:
        raise ValueError(
            f"{os.fspath(path)} is of version {version}, this metahpo reads {VERSION} and older"
        )
    estimator = kinds[about["kind"]](**about["params"])
    task = Task(**about["task"])
    estimator._judge = metric(about["judge"], about["kind"] == "Classifier")
    estimator._encoder = Encoder(
        tuple(_rule(rule) for rule in about["encoder"]["rules"]), about["encoder"]["named"]
    )
    members = tuple(
        Member(weights=_under(arrays, f"members.{i}."), **member)
        for i, member in enumerate(about["members"])
    )
    statistics = {
        name: Statistics(**_under(arrays, f"statistics.{name}.")) for name in about["transforms"]
    }
    parts = _under(arrays, "table.")
    rows = Rows(parts.pop("rows.x"), parts.pop("rows.codes"))
    estimator.model_ = Model(task, members, statistics, Table(rows=rows, **parts))
    estimator.trials_ = [
        Trial(fold_loss=loss, unit=np.zeros(0), out_of_fold=None, weights=None, **trial)
        for loss, trial in zip(arrays["fold_loss"], about["trials"], strict=True)
    ]
    for name, value in about["attributes"].items():
        setattr(estimator, name, value)
    estimator.rounds_ = [(name, count) for name, count in estimator.rounds_]
    for name in (*_ARRAYS, "classes_"):
        if name in arrays:
            setattr(estimator, name, arrays[name])
    if about["names"]:
        estimator.feature_names_in_ = np.array(about["names"], object)
    return estimator


def _under(arrays: dict[str, np.ndarray], start: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}


def _rule(rule: dict[str, Any]) -> Rule:
    lists = {name: tuple(rule[name]) for name in ("centre", "scale", "levels")}
    return Rule(**{**rule, **lists})


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"cannot save {value!r} ({type(value).__name__})")
