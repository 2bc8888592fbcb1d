"""One of two processes of a run: ``python two_processes.py RANK PORT FOLDER [die|fail]``."""

import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
from copying_strategy import copying

import metahpo as mh

SPACE = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(-1.0, 1.0)}
ROUNDS, POPULATION = 6, 6


def problem():
    """Elementwise arithmetic, so that no sum is rounded in another order."""
    return mh.Problem(
        sample=jax.random.normal,
        init=lambda key, h, task: jax.random.normal(key, (3,)),
        step=lambda key, h, task, state: state - 0.1 * h["x"] * (state - task),
        loss=lambda key, h, task, state: jnp.abs(state).max() + h["y"] ** 2,
        describe=lambda task: jnp.zeros(0),
    )


def loop(mesh=None):
    strategy = copying(SPACE, POPULATION)
    return mh.run.search_loop(problem(), SPACE, strategy, rounds=ROUNDS, steps=2, mesh=mesh)


def drive(mesh, folder, **options):
    return mh.run.drive(loop(mesh), jax.random.key(1), chunk=1, directory=folder, **options)


def as_bytes(result):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.history)]


def main(rank, port, folder, die, fail):
    jax.distributed.initialize(f"localhost:{port}", 2, rank)
    mesh = jax.make_mesh((jax.device_count(),), ("members",))

    def stop(done, history):
        if die and rank == 1 and done == 3:
            os._exit(9)
        if fail and rank == 0 and done == 3:
            raise ValueError("on_chunk of process 0 failed")

    if fail:
        drive(mesh, folder, on_chunk=stop)
    try:
        result = drive(mesh, folder, resume=True, on_chunk=stop)
    except RuntimeError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)  # an ordinary exit first waits as long as heartbeats may stay away
    whole = jax.jit(lambda key: mh.run.scan(loop(mesh), key))(jax.random.key(1))
    alone = jax.jit(lambda key: mh.run.scan(loop(), key))(jax.random.key(1))
    print(
        json.dumps(
            {
                "devices": jax.device_count(),
                "copied": bool((result.history.parent[1:] != np.arange(POPULATION)).any()),
                "search": as_bytes(whole) == as_bytes(alone),
                "drive": as_bytes(result) == as_bytes(alone),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], "die" in sys.argv, "fail" in sys.argv)
