"""Small runs of every kind that keeps checkpoints, to be killed, damaged and resumed.

Each is made of many short rounds with a checkpoint after every one, so that a kill at a random
moment often meets a file that is being written.
"""

import hashlib
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh

SPACE = {"lr": mh.Float(1e-3, 1.0, log=True), "momentum": mh.Float(0.0, 0.99)}
ROUNDS = 16


def problem() -> mh.Problem:
    """Least squares of 3 weights on 16 rows, by momentum on minibatches of 4."""

    def optimizer(h: Any) -> optax.GradientTransformation:
        return optax.sgd(h["lr"], h["momentum"])

    def init(key: Any, h: Any, task: Any) -> Any:
        return jnp.ones(3), optimizer(h).init(jnp.ones(3))

    def step(key: Any, h: Any, task: Any, state: Any) -> Any:
        params, opt_state = state
        rows = task[jax.random.randint(key, (4,), 0, 16)]
        grad = jax.grad(lambda p: jnp.mean((rows @ p - 1.0) ** 2))(params)
        updates, opt_state = optimizer(h).update(grad, opt_state)
        return optax.apply_updates(params, updates), opt_state

    return mh.Problem(
        sample=lambda key: jax.random.normal(key, (16, 3)),
        init=init,
        step=step,
        loss=lambda key, h, task, state: jnp.mean((task @ state[0] - 1.0) ** 2),
    )


def search_loop(rounds: int = ROUNDS, mesh: Any = None) -> mh.run.Loop:
    """Population based training: members go on from each other's trainings."""
    strategy = mh.strategies.pbt(SPACE, population=4)
    return mh.run.search_loop(problem(), SPACE, strategy, rounds=rounds, steps=2, mesh=mesh)


def meta_loop(rounds: int = ROUNDS) -> mh.run.Loop:
    """A rate and a momentum learned over tasks, by an estimator with a memory."""
    links = {"lr": mh.links.log, "momentum": mh.links.logit(0.0, 1.0)}
    free = mh.links.unconstrained(problem(), links)
    return mh.run.meta_loop(
        free,
        mh.hypergrad.truncated(free, steps=8, window=2, burn_in=False),
        mh.links.unconstrain(links, {"lr": 0.05, "momentum": 0.5}),
        optax.adam(0.05),
        rounds=rounds,
        tasks=2,
    )


def cost(h: dict[str, float]) -> float:
    """A Python function with a little work."""
    time.sleep(0.003)
    return (np.log10(h["lr"]) + 1.5) ** 2 + (h["momentum"] - 0.9) ** 2


def searched(folder: Path, rounds: int = ROUNDS) -> Any:
    return _driven(search_loop(rounds), folder)


def meta_trained(folder: Path, rounds: int = ROUNDS) -> Any:
    return _driven(meta_loop(rounds), folder)


def minimized(folder: Path, workers: Any = 1, rounds: int = ROUNDS) -> Any:
    strategy = mh.strategies.differential_evolution(SPACE, population=6)
    return mh.minimize(
        cost,
        SPACE,
        strategy,
        rounds=rounds,
        seed=5,
        directory=folder,
        resume=True,
        progress=False,
        workers=workers,
    )


def minimized_by_threads(folder: Path) -> Any:
    return minimized(folder, workers=3)


def minimized_by_processes(folder: Path) -> Any:
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        return minimized(folder, workers=pool)


RUNS: dict[str, Callable[[Path], Any]] = {
    "search": searched,
    "meta_train": meta_trained,
    "minimize": minimized,
    "minimize, 3 threads": minimized_by_threads,
    "minimize, 2 processes": minimized_by_processes,
}


def comparison() -> dict[str, Any]:
    """What ``python -m metahpo compare benchmarks._fault_runs:comparison`` compares."""
    return {
        "problem": problem(),
        "space": SPACE,
        "methods": {
            "default": {"lr": 0.1, "momentum": 0.9},
            "random": mh.strategies.random(SPACE, 4),
            "snes": mh.strategies.snes(SPACE, 4),
        },
        "budget": 8,
        "steps": 4,
        "seeds": 2,
        "tasks": 2,
    }


def digest(history: Any) -> str:
    """Of every byte of a history."""
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(history):
        sha.update(np.asarray(leaf).tobytes())
    return sha.hexdigest()


def work(name: str, folder: str, out: str) -> None:
    """Runs, or goes on, and leaves the digest of the history in a file; made to be killed."""
    os.setsid()  # so that workers die with it
    found = digest(RUNS[name](Path(folder)).history)
    temporary = Path(out + ".tmp")
    temporary.write_text(found)
    temporary.rename(out)


def _driven(loop: mh.run.Loop, folder: Path) -> Any:
    return mh.run.drive(
        loop, jax.random.key(7), chunk=1, directory=folder, resume=True, progress=False
    )


def work_of_two(folder: str, out: str, rank: int, port: str) -> None:
    """One of two processes that share a search."""
    jax.distributed.initialize(
        f"localhost:{port}", 2, rank, initialization_timeout=60, heartbeat_timeout_seconds=20
    )
    mesh = jax.make_mesh((jax.device_count(),), ("members",))
    result = _driven(search_loop(mesh=mesh), Path(folder))
    if rank == 0:
        Path(out).write_text(digest(result.history))


def main(name: str, folder: str, out: str, *more: str) -> None:
    if name == "two":
        work_of_two(folder, out, int(more[0]), more[1])
    else:
        Path(out).write_text(digest(RUNS[name](Path(folder)).history))


if __name__ == "__main__":
    main(*sys.argv[1:])
