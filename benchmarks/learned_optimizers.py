"""An outer step of meta-training, and what the update of a learned rule costs.

    python -m benchmarks.learned_optimizers --json FILE

* ``learned_optimizers/outer step, N tasks``: an update of ``meta_train`` with ``pes`` (one pair a
  task, windows of 50 of 1,000 updates, summed losses) on learnable Adam and quadratics of 10
  dimensions, in a program of many such updates: ``run_seconds`` of one of them.
  learned_optimization has published 5.5 to 8.4 ms for 16 tasks and 27 to 37 ms for 256.
* ``learned_optimizers/RULE``: one update of a network's parameters with given gradients.
  ``run_seconds`` beside ``optax.adam``, ``bytes`` that the compiler counts a parameter beside
  Adam's, and the seconds to compile it.
"""

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

import metahpo as mh
from benchmarks import common
from benchmarks.common import Row
from metahpo import learned_optimizers as lo
from metahpo.base import PyTree

WINDOW, EPISODE, DIMENSION = 50, 1000, 10
TASKS = (16, 256)
LAYERS, WIDTH = 4, 512  # 1 M parameters
REPEATS = 15


def rules(like: PyTree) -> dict[str, lo.UpdateRule]:
    """The rungs of the ladder at their default sizes."""
    numbers = {"learning_rate": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
    return {
        "learnable adam": lo.learnable(optax.adam, numbers),
        "per_parameter_mlp": lo.per_parameter_mlp(),
        "factored_mlp": lo.factored_mlp(),
        "two_level": lo.two_level(),
        "symbolic": lo.symbolic(),
    }


def measure(quick: bool = False) -> Iterator[Row]:
    """All rows."""
    for tasks in (2,) if quick else TASKS:
        yield from outer_steps(tasks, 4 if quick else 200, 1 if quick else REPEATS)
    yield from updates(*((1, 8, 1) if quick else (LAYERS, WIDTH, REPEATS)))


def outer_steps(tasks: int, rounds: int, repeats: int) -> Iterator[Row]:
    """Seconds of an update of the hyperparameters."""
    numbers = {"learning_rate": 0.03, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
    rule = lo.learnable(optax.adam, numbers)
    problem = mh.problems.training(mh.problems.uniform_quadratics(DIMENSION), rule.transform)
    estimator = mh.hypergrad.pes(
        problem, EPISODE, WINDOW, pairs=1, sigma=0.01, losses="step", stagger="random"
    )
    start = rule.init(jax.random.key(0))

    @jax.jit
    def learn(key: mh.base.Key) -> PyTree:
        return mh.meta_train(
            key, problem, estimator, start, optax.adam(1e-3), rounds=rounds, tasks=tasks
        ).hparams

    (seconds,) = common.interleaved(repeats, lambda: learn(jax.random.key(1)))
    title = f"learned_optimizers/outer step, {tasks} tasks"
    yield common.row(title, "run_seconds", "s", [each / rounds for each in seconds])


def updates(layers: int, width: int, repeats: int) -> Iterator[Row]:
    """One update of every rule on a network, beside Adam's."""
    keys = jax.random.split(jax.random.key(0), 2 * layers)
    params = [
        {"kernel": jax.random.normal(key, (width, width)), "bias": jnp.zeros(width)}
        for key in keys[:layers]
    ]
    grads = [
        {"kernel": jax.random.normal(key, (width, width)), "bias": jnp.ones(width)}
        for key in keys[layers:]
    ]
    adam = _compiled(optax.adam(1e-3), params, grads)
    calls, found = [adam["call"]], {}
    for name, rule in rules(params).items():
        weights = jax.jit(rule.init)(jax.random.key(1))
        found[name] = _compiled(rule.transform(weights), params, grads)
        calls.append(found[name]["call"])
    seconds = common.interleaved(repeats, *calls)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    for (name, program), own in zip(found.items(), seconds[1:], strict=True):
        title = f"learned_optimizers/{name}"
        yield common.row(title, "run_seconds", "s", own, seconds[0])
        yield common.row(
            title, "bytes", "B/parameter", [program["bytes"] / count], [adam["bytes"] / count]
        )
        yield common.row(title, "compile_seconds", "s", [program["compile"]], [adam["compile"]])


def _compiled(
    optimizer: optax.GradientTransformation, params: PyTree, grads: PyTree
) -> dict[str, Any]:
    """An update as a program, what the compiler counts, and how long it takes to compile."""
    state = jax.jit(optimizer.init)(params)
    start = time.perf_counter()
    compiled = jax.jit(optimizer.update).lower(grads, state, params).compile()
    seconds = time.perf_counter() - start
    cost = compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return {
        "call": lambda: compiled(grads, state, params),
        "bytes": cost["bytes accessed"],
        "compile": seconds,
    }


if __name__ == "__main__":
    common.main(measure, __doc__)
