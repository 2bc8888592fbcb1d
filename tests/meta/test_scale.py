"""Whole meta-trainings of MAML: over 8 simulated devices, and mapped over seeds and meta-rates."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

PROGRAM = """
import jax, json, numpy as np, optax
import metahpo as mh

assert jax.device_count() == 8
mesh = jax.make_mesh((8,), ("tasks",))
problem = mh.meta.maml(mh.problems.sinusoid(shots=5, hidden=(8,)), 0.01)

def train(mesh, tasks, chunk=None):
    def run(key):
        result = mh.meta_train(
            key, problem, mh.hypergrad.reverse(problem, 2, "none"), problem.initial(key),
            optax.sgd(0.01), rounds=5, tasks=tasks, mesh=mesh, chunk=chunk,
        )
        return result.history.loss, result.hparams
    return jax.tree.leaves(jax.jit(run)(jax.random.key(0)))

def near(a, b):
    return all(np.allclose(x, y, rtol=1e-9, atol=1e-12) for x, y in zip(a, b, strict=True))

whole = {tasks: train(None, tasks) for tasks in (16, 11)}
print(json.dumps({
    "divides": near(train(mesh, 16), whole[16]),
    "padded": near(train(mesh, 11), whole[11]),
    "in chunks": near(train(mesh, 16, chunk=8), whole[16]),
}))
"""


@pytest.mark.slow
def test_tasks_over_a_mesh_of_eight_devices_give_what_one_device_gives():
    flags = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 "
        "--xla_backend_optimization_level=0"
    )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            **os.environ,
            "XLA_FLAGS": flags,
            "JAX_ENABLE_X64": "1",
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome == dict.fromkeys(outcome, True)


def test_seeds_and_meta_rates_of_whole_meta_trainings_are_mapped():
    family = mh.problems.sinusoid(shots=5, hidden=(8,))

    def train(key, meta_rate, inner_rate):
        problem = mh.meta.maml(family, inner_rate)
        result = mh.meta_train(
            key,
            problem,
            mh.hypergrad.reverse(problem, 1),
            problem.initial(key),
            optax.sgd(meta_rate),
            rounds=5,
            tasks=4,
        )
        return result.history.loss

    keys, rates = jax.random.split(jax.random.key(0), 3), jnp.array([0.001, 0.02])

    @jax.jit
    def grid(keys, rates):
        per_rate = jax.vmap(train, (None, 0, None))
        return jax.vmap(per_rate, (0, None, None))(keys, rates, 0.01)

    losses = grid(keys, rates)
    assert losses.shape == (3, 2, 5)
    alone = jax.jit(train)
    for seed, rate in ((0, 1), (2, 0)):
        expected = alone(keys[seed], rates[rate], 0.01)
        np.testing.assert_allclose(losses[seed, rate], expected, rtol=1e-4)
    assert np.abs(losses[:, 0, -1] - losses[:, 1, -1]).min() > 1e-3
    np.testing.assert_allclose(losses[:, 0, 0], losses[:, 1, 0], rtol=1e-6)  # before any update
