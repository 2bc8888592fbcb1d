"""Every hypergradient estimator on three problems: bias, deviation, seconds and memory.

    python -m benchmarks.estimators --json FILE

``benchmarks._estimator_problems`` describes the problems, ``docs/which_estimator.md`` shows the
results.  All in f32, hyperparameters fixed.  An estimator is called again and again with other keys
and the memory that it left; ``T`` is the number of steps of a training.

Metrics, with ``| |`` the norm over all hyperparameters together and ``g`` the true gradient:

* ``bias``: ``|mean - g| / |g|`` over all estimates; ``bias_error``: its standard error, from that
  of the mean over independent runs and that of the truth.  A bias below two of it is none that
  shows.
* ``deviation``: the root of the mean of ``|estimate - mean|^2 / |g|^2``: by how much one estimate
  differs from the next.
* ``cosine``: of the angle between the mean and ``g``.
* ``run_seconds`` of one estimate with all of its ``info``; the baseline is a whole training without
  a gradient.  All estimators of a problem run in turns.
* ``memory_bytes``: XLA's temporary memory for one estimate and what the estimator keeps from one to
  the next; the baseline is the temporary memory of the training.
* ``info.KEY``: what the diagnostics said, the mean over estimates; for a flag the share of
  estimates that raised it.  ``info.standard_error`` is relative to ``|g|``, and to be compared with
  ``deviation``.  ``info.sees.LEAF``, and of ``mixture`` ``info.es_weight.LEAF``, are one for each
  leaf of the hyperparameters, the mean over its entries.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import common
from benchmarks._estimator_problems import Entry, Sizes, Subject, raveled, subjects
from benchmarks._reference import Size
from benchmarks.common import Row
from metahpo.base import PyTree

FULL = Sizes(
    examples=2048,
    features=32,
    batches=8,
    ridge_steps=200,
    skipped=2000,
    schedule=Size((16, 32, 4), batch=32, steps=40),
    unstable=Size((8, 16, 16, 4), batch=64, steps=200),
    window=10,
    pairs=16,
    runs=400,
    truth_runs=100,
)
QUICK = Sizes(
    examples=24,
    features=3,
    batches=2,
    ridge_steps=50,
    skipped=8,
    schedule=Size((3, 4, 2), batch=4, steps=4),
    unstable=Size((3, 4, 2), batch=4, steps=6),
    window=2,
    pairs=2,
    runs=4,
    truth_runs=3,
)
REPEATS = 15
FLAGS = ("finite", "exploding", "converged")
NUMBERS = ("explosion_exponent", "stationarity", "residual", "iterations", "diverged")


class Sampled(NamedTuple):
    """Gradients ``f64[runs, estimates, h]``, what the diagnostics said, and the last memory."""

    grads: np.ndarray
    info: dict[str, float]
    memory: PyTree


def measure(quick: bool = False) -> Iterator[Row]:
    """All rows."""
    for subject in subjects(QUICK if quick else FULL):
        yield from measure_subject(subject, 1 if quick else REPEATS)


def measure_subject(subject: Subject, repeats: int) -> Iterator[Row]:
    """All rows of a problem."""
    truth, hparams, task = subject.truth(), subject.hparams, subject.task
    key = jax.random.key(0)
    training = jax.jit(subject.training).lower(key, hparams, task).compile()
    temporary = training.memory_analysis().temp_size_in_bytes
    calls, rows = [lambda: training(key, hparams, task)], []
    for entry in subject.entries:
        compiled, sampled = compile_and_sample(subject, entry, truth[0])
        title = f"estimators/{subject.name}, {entry.call}"
        rows.append([common.row(title, k, "1", [v]) for k, v in quality(sampled, truth).items()])
        used = compiled.memory_analysis().temp_size_in_bytes + size(sampled.memory)
        rows[-1].append(common.row(title, "memory_bytes", "B", [used], [temporary]))
        rows[-1] += [common.row(title, f"info.{k}", "1", [v]) for k, v in sampled.info.items()]
        calls.append(lambda c=compiled, m=sampled.memory: c(key, hparams, task, m))
    seconds = common.interleaved(repeats, *calls)
    title = f"estimators/{subject.name}, training"
    yield common.row(title, "run_seconds", "s", seconds[0])
    yield common.row(title, "memory_bytes", "B", [temporary])
    for entry, own, found in zip(subject.entries, seconds[1:], rows, strict=True):
        title = f"estimators/{subject.name}, {entry.call}"
        yield common.row(title, "run_seconds", "s", own, seconds[0])
        yield from found


def compile_and_sample(subject: Subject, entry: Entry, truth: np.ndarray) -> tuple[Any, Sampled]:
    """One compiled estimate, and what it gave when called again and again."""
    hparams, task, estimator = subject.hparams, subject.task, entry.estimator
    init, each = jax.jit(estimator.init), entry.skipped + entry.estimates
    run_keys = jax.random.split(jax.random.key(2), entry.runs)
    memory = init(run_keys[0], hparams, task)
    compiled = jax.jit(estimator.estimate).lower(run_keys[0], hparams, task, memory).compile()
    grads, infos = [], []
    for run_key in run_keys:
        init_key, *keys = jax.device_put(list(jax.random.split(run_key, each + 1)))
        memory = init(init_key, hparams, task)
        for number, key in enumerate(keys):
            estimate, memory = compiled(key, hparams, task, memory)
            if number >= entry.skipped:
                grads.append(estimate.grad)
                infos.append(told(estimate.info))
    table = np.stack([raveled(grad) for grad in grads])
    shape = entry.runs, entry.estimates, -1
    return compiled, Sampled(table.reshape(shape), summary(infos, truth), memory)


def told(info: dict[str, Any]) -> dict[str, Any]:
    """The diagnostics that are reported."""
    known = (*FLAGS, *NUMBERS, "sees", "es_weight", "standard_error")
    return {name: info[name] for name in known if name in info}


def summary(infos: Sequence[dict[str, Any]], truth: np.ndarray) -> dict[str, float]:
    """The mean of every number over the estimates, by name; those that are not finite are left out.

    The exponent is minus infinite where a gradient underflows on its way back.
    """
    found: dict[str, list[float]] = {}
    for info in jax.device_get(list(infos)):
        info = dict(info)
        if "standard_error" in info:
            error = np.linalg.norm(raveled(info["standard_error"])) / np.linalg.norm(truth)
            info["standard_error"] = error
        for path, leaf in jax.tree_util.tree_leaves_with_path(info):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            found.setdefault(name, []).append(float(np.mean(leaf)))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return {name: mean for name, mean in means.items() if np.isfinite(mean)}


def quality(sampled: Sampled, truth: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """``bias``, ``bias_error``, ``deviation`` and ``cosine``."""
    (exact, exact_error), grads = truth, sampled.grads
    length, runs = np.linalg.norm(exact), len(grads)
    by_run = grads.mean(axis=1)
    mean = by_run.mean(axis=0)
    variance = by_run.var(axis=0, ddof=1) / runs if runs > 1 else np.zeros_like(mean)
    own = np.linalg.norm(mean)
    return {
        "bias": float(np.linalg.norm(mean - exact) / length),
        "bias_error": float(np.sqrt(np.sum(variance + exact_error**2)) / length),
        "deviation": float(np.sqrt(np.mean(np.sum((grads - mean) ** 2, axis=-1))) / length),
        "cosine": float(mean @ exact / (own * length)) if own else 0.0,
    }


def size(tree: PyTree) -> int:
    """Bytes of the arrays, or shapes, of a pytree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    common.main(measure, __doc__)
