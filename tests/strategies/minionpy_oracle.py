"""Median evaluations to 1e-8 of our strategies, on the functions of minionpy_medians.json.

The file is written by benchmarks/peers/de_minionpy.py, which defines the functions too.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh

ORACLE = json.loads((Path(__file__).parent / "minionpy_medians.json").read_text())
DIMENSION, TARGET = ORACLE["dimension"], ORACLE["target"]
SPACE = {"x": mh.Float(-5.0, 5.0, shape=(DIMENSION,))}
STRETCH = 10.0 ** (6 * np.arange(DIMENSION) / (DIMENSION - 1))
FUNCTIONS = {
    "sphere": lambda x: jnp.sum(x**2),
    "ellipsoid": lambda x: jnp.sum(STRETCH * x**2),
    "rosenbrock": lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    "rastrigin": lambda x: jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10),
}


def oracle(case):
    """The oracle's median of every function."""
    functions = ORACLE["cases"][case]["functions"]
    return np.array([functions[name]["median"] for name in FUNCTIONS])


def every(function):
    """Over the four functions and over their runs."""
    return jax.vmap(jax.vmap(function))


def medians(strategy, rounds, runs):
    """``[4]``: of ``runs`` runs each, in one program; infinite if most fail within ``rounds``."""

    def losses(unit):  # [4, runs, P, D]; every function sees its own runs only
        pairs = zip(FUNCTIONS.values(), 10 * unit - 5, strict=True)
        return jnp.stack([every(function)(points) for function, points in pairs])

    @jax.jit
    def run(init_keys, round_keys):
        def step(carry, keys):
            state, count, hit = carry
            proposal, state = every(strategy.ask)(keys[..., 0], state)
            busy = proposal.budget > 0
            loss = jnp.where(busy, losses(proposal.unit), jnp.inf)
            evaluation = mh.Evaluation(loss, None, ())
            state = every(strategy.tell)(keys[..., 1], state, proposal, evaluation)
            order = count[..., None] + jnp.cumsum(busy, axis=-1)
            reached = jnp.where(loss <= TARGET, order, jnp.inf).min(axis=-1)
            return (state, order[..., -1], jnp.minimum(hit, reached)), None

        shape = init_keys.shape
        start = (every(strategy.init)(init_keys), jnp.zeros(shape, int), jnp.full(shape, jnp.inf))
        return jax.lax.scan(step, start, round_keys)[0][2]

    init_key, round_key = jax.random.split(jax.random.key(0))
    hits = run(
        jax.random.split(init_key, (len(FUNCTIONS), runs)),
        jax.random.split(round_key, (rounds, len(FUNCTIONS), runs, 2)),
    )
    return np.median(np.asarray(hits), axis=1)
