"""Reading a surrogate of YAHPO Gym from where a user keeps it; nothing is downloaded."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metahpo import checks
from metahpo.problems.surrogate.graph import Graph, read_graph
from metahpo.space import Choice, Dimension, Float, Int

STATISTICS = "instance_target_statistics.csv"
LAYOUT = f"""Expected are
  DIR/config_space.json, DIR/encoding.json and DIR/model.onnx, a scenario's folder of
    https://github.com/slds-lmu/yahpo_data
  DIR/{STATISTICS} or DIR/../{STATISTICS}, the ranges of the metrics
where DIR is the argument path."""


class Scenario(NamedTuple):
    """What the files leave to YAHPO's own code.

    Attributes:
        continuous: the columns of the network's input of numbers.
        categorical: the columns of its input of categories.
        instance: which of these is the task.
        fidelity: which of the numbers is the training time.
        fixed: numbers that are no hyperparameters, at their full fidelity.
        minimised: the columns of its output, and which are minimised.
    """

    continuous: tuple[str, ...]
    categorical: tuple[str, ...]
    instance: str
    fidelity: str
    fixed: dict[str, float]
    minimised: dict[str, bool]


SCENARIOS = {
    "lcbench": Scenario(
        continuous=(
            "epoch", "batch_size", "learning_rate", "momentum", "weight_decay", "num_layers",
            "max_units", "max_dropout",
        ),
        categorical=("OpenML_task_id",),
        instance="OpenML_task_id",
        fidelity="epoch",
        fixed={},
        minimised={
            "time": True, "val_accuracy": False, "val_cross_entropy": True,
            "val_balanced_accuracy": False, "test_cross_entropy": True,
            "test_balanced_accuracy": False,
        },
    ),
    "rbv2_rpart": Scenario(
        continuous=("cp", "maxdepth", "minbucket", "minsplit", "trainsize", "repl"),
        categorical=("task_id", "num.impute.selected.cpo"),
        instance="task_id",
        fidelity="trainsize",
        fixed={"repl": 10.0},
        # YAHPO's own code has f1 among those that are minimised.
        minimised={
            "acc": False, "bac": False, "auc": False, "brier": True, "f1": False, "logloss": True,
            "timetrain": True, "timepredict": True, "memory": True,
        },
    ),
}  # fmt: skip


class Surrogate(NamedTuple):
    """A network that tells what trainings would have come to, as ``read_surrogate`` makes it.

    Attributes:
        space: ``{name: dimension}``, the search space.
        instances: the ``T`` OpenML tasks; a task of the problem is a place in here.
        best: ``{metric: f64[T]}``, the lowest loss on record, over all fidelities.
        worst: ``{metric: f64[T]}``, the highest one.
        fidelity: the lowest and the highest training time: epochs, or the share of the data.
        scenario: the columns of the network.
        codes: ``{category: i32[...]}``, what the network calls the values of ``space`` and
            ``instances``.
        graph: the network.
    """

    space: dict[str, Dimension]
    instances: tuple[str, ...]
    best: dict[str, np.ndarray]
    worst: dict[str, np.ndarray]
    fidelity: Int | Float
    scenario: Scenario
    codes: dict[str, np.ndarray]
    graph: Graph


def read_surrogate(path: str | Path) -> Surrogate:
    """Reads a surrogate of YAHPO Gym: ``lcbench`` or ``rbv2_rpart``.

    ``lcbench``: 7 hyperparameters of dense networks on 34 data sets, trained for 1 to 52 epochs.
    ``rbv2_rpart``: 5 hyperparameters of decision trees on 117 data sets, trained on 3 % to 100 % of
    the data; the loss is that of all ten repetitions (``repl``).

    Args:
        path: the folder with the scenario's files, of the scenario's name.

    Returns:
        A ``Surrogate``.

    Raises:
        FileNotFoundError: if a file is not there; the message says what is looked for.
        ImportError: without onnx (extra ``surrogate``).
        ValueError: for another scenario, or files that are not what they should be.

    Source:
        Pfisterer, Schneider, Moosbauer, Binder & Bischl, "YAHPO Gym: an efficient multi-objective
        multi-fidelity benchmark for hyperparameter optimization", AutoML 2022.

    Example:
        >>> import metahpo as mh
        >>> found = mh.problems.read_surrogate("data/yahpo/lcbench")  # doctest: +SKIP
    """
    folder = Path(path).expanduser().absolute()
    checks.one_of("the scenario, the name of the folder,", folder.name, SCENARIOS)
    scenario = SCENARIOS[folder.name]
    dims = _dimensions(_found(folder / "config_space.json"))
    if missing := {*scenario.continuous, *scenario.categorical} ^ set(dims):
        raise ValueError(
            f"{folder}: the hyperparameters must be those of {folder.name}, not so: "
            f"{sorted(missing)}"
        )
    codes = _codes(_found(folder / "encoding.json"), {n: dims[n] for n in scenario.categorical})
    fidelity, instances = dims.pop(scenario.fidelity), dims.pop(scenario.instance)
    assert not isinstance(fidelity, Choice) and isinstance(instances, Choice)
    file = next((f / STATISTICS for f in (folder, folder.parent) if (f / STATISTICS).exists()),
                folder / STATISTICS)  # fmt: skip
    best, worst = _ranges(_found(file), folder.name, instances.values, scenario.minimised)
    space = {name: dim for name, dim in dims.items() if name not in scenario.fixed}
    graph = read_graph(_found(folder / "model.onnx"))
    return Surrogate(space, tuple(instances.values), best, worst, fidelity, scenario, codes, graph)


def _found(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}.\n{LAYOUT}")
    return file


def _codes(file: Path, categories: dict[str, Dimension]) -> dict[str, np.ndarray]:
    """What the network calls every value of a category."""
    encoding, codes = json.loads(file.read_text()), {}
    for name, dim in categories.items():
        if not isinstance(dim, Choice):
            raise ValueError(f"{name} must be categorical, got {dim}")
        if unknown := [value for value in dim.values if value not in encoding.get(name, {})]:
            raise ValueError(f"{file} must encode all values of {name}, not so: {unknown[0]}")
        codes[name] = np.array([encoding[name][value] for value in dim.values], np.int32)
    return codes


def _dimensions(file: Path) -> dict[str, Dimension]:
    content = json.loads(file.read_text())
    for what in ("conditions", "forbiddens"):
        if content.get(what):
            raise ValueError(f"{file} must have no {what}, got {content[what][0]}")
    return {entry["name"]: _dimension(file, entry) for entry in content["hyperparameters"]}


def _dimension(file: Path, entry: dict[str, Any]) -> Dimension:
    kind = entry["type"]
    if kind == "categorical":
        return Choice(tuple(entry["choices"]))
    if kind not in ("uniform_int", "uniform_float"):
        raise ValueError(
            f"{file}: {entry['name']} must be categorical, uniform_int or uniform_float, got {kind}"
        )
    make = Int if kind == "uniform_int" else Float
    return make(entry["lower"], entry["upper"], log=entry["log"])


def _ranges(
    file: Path, scenario: str, instances: Sequence[str], minimised: dict[str, bool]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The best and the worst loss of every metric, ``f64[T]``."""
    with file.open(newline="") as stream:
        values = {
            (row["metric"], row["statistic"], row["instance"]): float(row["value"])
            for row in csv.DictReader(stream)
            if row["scenario"] == scenario
        }

    def column(metric: str, statistic: str) -> np.ndarray:
        try:
            return np.array([values[metric, statistic, instance] for instance in instances])
        except KeyError as error:
            raise ValueError(f"{file} must have the range of {error.args[0]}") from error

    low = {metric: column(metric, "min") for metric in minimised}
    high = {metric: column(metric, "max") for metric in minimised}
    best = {metric: low[metric] if less else -high[metric] for metric, less in minimised.items()}
    worst = {metric: high[metric] if less else -low[metric] for metric, less in minimised.items()}
    return best, worst
