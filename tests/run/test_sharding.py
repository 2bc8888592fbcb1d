"""Batches over 8 simulated devices give what one device gives, in elementwise arithmetic.

Matrix products may round differently in batches of another size, so these problems have none.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.versions

HERE = Path(__file__).parent
PATHS = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
PROGRAM = """
import jax, jax.numpy as jnp, json, numpy as np, optax
import metahpo as mh
from copying_strategy import copying

assert jax.device_count() == 8
mesh = jax.make_mesh((8,), ("members",))
square = jax.make_mesh((4, 2), ("a", "b"))
space = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(-1.0, 1.0)}
problem = mh.problems.function(lambda h: h["x"] ** 2 + (h["y"] - 0.3) ** 2)._replace(
    sample=jax.random.normal, loss=lambda key, h, task, state: (h["x"] - task) ** 2 + h["y"] ** 2
)


walk = problem._replace(
    init=lambda key, h, task: {"at": jax.random.normal(key, (3,)), "key": key},
    step=lambda key, h, task, state: {**state, "at": state["at"] * h["x"] - 0.0},
    loss=lambda key, h, task, state: jnp.abs(state["at"]).max() + jax.random.normal(state["key"]),
)


def history(
    population, mesh, strategy=mh.strategies.differential_evolution, problem=problem, **options
):
    tune = lambda key: mh.search(
        key, problem, space, strategy(space, population), rounds=3, steps=2, mesh=mesh, **options
    ).history
    return jax.jit(tune)(jax.random.key(0))


def halving(space, population):
    return mh.strategies.successive_halving(space, population, max_steps=3)


def meta(mesh):
    return mh.meta_train(
        jax.random.key(0), problem, mh.hypergrad.reverse(problem, 1),
        {"x": jnp.array(0.5), "y": jnp.array(0.5)}, optax.adam(0.1), rounds=3, tasks=6, mesh=mesh,
    ).history


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def near(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b))
    return all(np.allclose(x, y, rtol=1e-6, atol=1e-6) for x, y in pairs)


print(json.dumps({
    # Where nothing is padded, compilers since JAX 0.12 contract the products and sums within
    # differential evolution otherwise in the two programs, which is an ulp of a point.
    "divides": near(history(16, None), history(16, mesh)),
    "padded": equal(history(11, None), history(11, mesh)),
    "two axes": equal(history(11, None), history(11, square)),
    "gradients": equal(
        history(5, None, mh.strategies.hypergradient), history(5, mesh, mh.strategies.hypergradient)
    ),
    "parents on other devices": equal(
        history(11, None, copying, walk), history(11, mesh, copying, walk)
    ),
    "chunks on every device": equal(
        history(37, None, copying, walk), history(37, mesh, copying, walk, chunk=2)
    ),
    "rounds of known sizes": equal(
        history(11, None, halving, walk), history(11, mesh, halving, walk)
    ) and equal(history(37, None, halving, walk), history(37, mesh, halving, walk, chunk=2)),
    # The mean over tasks sums device by device, so its last digits may differ.
    "tasks": all(np.allclose(a, b, rtol=1e-6) for a, b in zip(meta(None), meta(mesh))),
    "seeds": jax.jit(jax.vmap(lambda key: mh.search(
        key, problem, space, mh.strategies.random(space, 3), rounds=1, steps=1, mesh=mesh
    ).best_loss))(jax.random.split(jax.random.key(0), 2)).shape == (2,),
}))
"""


@pytest.mark.slow
def test_a_mesh_of_eight_devices_gives_the_history_of_one():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome == dict.fromkeys(outcome, True)
