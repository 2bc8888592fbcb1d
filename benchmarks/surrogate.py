"""Surrogate networks: evaluations per second of ``mh.problems.surrogate`` beside onnxruntime.

    METAHPO_DATA=FOLDER python -m benchmarks.surrogate --json FILE

``FOLDER/yahpo`` holds the scenarios ``lcbench`` and ``rbv2_rpart`` of YAHPO; onnx reads them, and
the baseline is onnxruntime where it is installed, on the same cores, in turns with ours.

Ours is the loss of the problem for a batch of hyperparameters and tasks in one vmapped program,
from the hyperparameters on; onnxruntime is given the finished inputs of the network.

Metrics, all ``evaluations_per_second``:

* ``..., N at once``: the baseline is onnxruntime with the same N rows in one call.
* ``..., N beside one at a time``: the baseline calls onnxruntime for every row, as a search
  through YAHPO does.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

import metahpo as mh
from benchmarks import common
from benchmarks.common import Row

OVER = 1000  # updates, more than a whole training has
METRICS = {"lcbench": "val_accuracy", "rbv2_rpart": "acc"}


class Sizes(NamedTuple):
    """How much is measured: rows of a batch, rows one by one, repeats."""

    batches: tuple[int, ...]
    singles: int
    repeats: int


FULL = Sizes((256, 4096), singles=500, repeats=9)
QUICK = Sizes((8,), singles=4, repeats=1)


def measure(quick: bool = False) -> Iterator[Row]:
    """The rows of both scenarios."""
    sizes = QUICK if quick else FULL
    folder = Path(os.environ.get("METAHPO_DATA", ".")) / "yahpo"
    if not folder.is_dir():
        sys.exit(f"no folder {folder}; METAHPO_DATA says where yahpo is")
    for name, metric in METRICS.items():
        for batch in sizes.batches:
            yield from _measured(folder / name, metric, batch, sizes)


def _measured(folder: Path, metric: str, batch: int, sizes: Sizes) -> Iterator[Row]:
    found = mh.problems.read_surrogate(folder)
    problem = mh.problems.surrogate(found, metric)
    loss = jax.jit(jax.vmap(lambda h, task: problem.loss(None, h, task, OVER)))
    keys = jax.random.split(jax.random.key(0), batch)
    hparams = jax.vmap(lambda key: mh.space.sample(key, found.space))(keys)
    tasks = jax.random.randint(jax.random.key(1), (batch,), 0, len(found.instances))
    calls: list[Callable[[], Any]] = [lambda: loss(hparams, tasks)]
    runtime = _runtime()
    if runtime is not None:
        inputs = _inputs(found, hparams, tasks)
        session = runtime.InferenceSession(
            str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
        )
        some = min(batch, sizes.singles)
        rows = [{name: x[i : i + 1] for name, x in inputs.items()} for i in range(some)]
        calls += [lambda: session.run(None, inputs), lambda: [session.run(None, r) for r in rows]]
    seconds = common.interleaved(sizes.repeats, *calls)
    ours = [batch / s for s in seconds[0]]
    name = f"surrogate/{folder.name}, {batch}"
    if runtime is None:
        yield common.row(f"{name} at once", "evaluations_per_second", "1/s", ours)
        return
    together, single = [batch / s for s in seconds[1]], [some / s for s in seconds[2]]
    yield common.row(f"{name} at once", "evaluations_per_second", "1/s", ours, together)
    yield common.row(f"{name} beside one at a time", "evaluations_per_second", "1/s", ours, single)


def _inputs(
    found: mh.problems.Surrogate, hparams: dict[str, jax.Array], tasks: jax.Array
) -> dict[str, np.ndarray]:
    """The inputs of the network for trainings that are over."""
    scenario, count = found.scenario, len(tasks)
    given = {name: np.asarray(x) for name, x in hparams.items()}
    whole = {**scenario.fixed, scenario.fidelity: found.fidelity.high}
    given |= {name: np.full(count, x) for name, x in whole.items()}
    given[scenario.instance] = np.asarray(tasks)
    codes = [found.codes[name][given[name]] for name in scenario.categorical]
    numbers = [given[name] for name in scenario.continuous]
    categories, continuous = found.graph.inputs
    return {
        categories: np.stack(codes, axis=1).astype(np.int32),
        continuous: np.stack(numbers, axis=1).astype(np.float32),
    }


def _runtime() -> ModuleType | None:
    try:
        return importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        print("ours alone: python -m pip install onnxruntime for the baseline", file=sys.stderr)
        return None


if __name__ == "__main__":
    common.main(measure, __doc__)
