"""From descriptors to hyperparameters: seconds to leave out every task, and to suggest.

    METAHPO_DATA=FOLDER python -m benchmarks.transfer --json FILE

``FOLDER/mapping`` holds the random forests of PMLB.  Tasks with a missing score are left out.

Metrics:

* ``compile_seconds``: of the program that leaves out one task after the other, learns from the
  others and suggests 8 configurations, with intervals for their regrets.
* ``leave_one_out_seconds``: of its run.  The baseline, where scikit-learn is installed, is its
  extra trees with 100 trees on the same descriptors and regrets, measured once in the same run: a
  forest fitted for every task that is left out, whose configuration of the lowest predicted regret
  is taken.
* ``suggestion_seconds``: of one suggestion for one descriptor, after all tasks were learned from.
"""

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import common
from benchmarks.common import Row
from metahpo import transfer
from metahpo.transfer.evaluate import leave_out
from metahpo.transfer.past import Past, past_of

RECOMMENDERS: dict[str, Callable[[], transfer.Recommender]] = {
    "best on average": transfer.best_on_average,
    "greedy portfolio": transfer.greedy_portfolio,
    "nearest tasks": transfer.nearest_tasks,
    "conditioned portfolio": transfer.conditioned_portfolio,
    "regression network": transfer.performance_network,
    "ranking network": lambda: transfer.performance_network("ranking"),
}
K, COVERAGE = 8, 0.9


class Sizes(NamedTuple):
    """How much is measured: tasks at most, repeats of fast runs, suggestions, trees."""

    tasks: int
    repeats: int
    suggestions: int
    trees: int


FULL = Sizes(1000, repeats=5, suggestions=100, trees=100)
QUICK = Sizes(6, repeats=1, suggestions=2, trees=2)


def measure(quick: bool = False) -> Iterator[Row]:
    """Rows of every recommender."""
    sizes = QUICK if quick else FULL
    file = Path(os.environ.get("METAHPO_DATA", ".")) / "mapping" / "pmlb_RandomForestClassifier.npz"
    if not file.is_file():
        sys.exit(f"no file {file}; METAHPO_DATA says where mapping is")
    experience = transfer.read_pmlb(file)
    whole = np.flatnonzero(~np.isnan(experience.losses()).any(1))
    experience = experience.take(whole[: sizes.tasks])
    past = past_of(experience)
    baseline = []
    if (forest := _forest(sizes.trees)) is not None:
        baseline = [common.seconds(lambda: extra_trees(forest, past))]
    for name, make in RECOMMENDERS.items():
        yield from _measured(f"transfer/{name}", make(), experience, past, baseline, sizes)


def _measured(
    name: str,
    recommender: transfer.Recommender,
    experience: transfer.Experience,
    past: Past,
    baseline: list[float],
    sizes: Sizes,
) -> Iterator[Row]:
    key = jax.random.key(0)
    start = time.perf_counter()
    program = leave_out.lower(recommender, key, past, K, False, COVERAGE).compile()
    yield common.row(name, "compile_seconds", "s", [time.perf_counter() - start])
    repeats = 1 if "network" in name else sizes.repeats
    (ours,) = common.interleaved(repeats, lambda: program(key, past), warm_up=repeats > 1)
    yield common.row(name, "leave_one_out_seconds", "s", ours, baseline * repeats)
    fitted = recommender.fit(experience)
    descriptors = experience.descriptors
    fitted.suggest(descriptors[0], K)
    taken = [
        common.seconds(lambda i=i: fitted.numbers(descriptors[i % len(descriptors)], K))
        for i in range(sizes.suggestions)
    ]
    yield common.row(name, "suggestion_seconds", "s", taken)


def extra_trees(forest: Callable[[], Any], past: Past) -> np.ndarray:
    """``i64[T]``: what forests suggest for every task that they have not seen."""
    x = np.nan_to_num(np.asarray(past.descriptors))
    regret = np.asarray(past.regret)
    kept = ~np.eye(len(x), dtype=bool)
    said = [forest().fit(x[own], regret[own]).predict(x[~own])[0] for own in kept]
    return np.argmin(said, axis=1)


def _forest(trees: int) -> Callable[[], Any] | None:
    try:
        ensemble = importlib.import_module("sklearn.ensemble")
    except ModuleNotFoundError:
        print("ours alone: python -m pip install scikit-learn for the baseline", file=sys.stderr)
        return None
    return lambda: ensemble.ExtraTreesRegressor(trees, n_jobs=-1, random_state=0)


if __name__ == "__main__":
    common.main(measure, __doc__)
