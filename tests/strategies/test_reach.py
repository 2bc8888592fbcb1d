"""Every algorithm, with its defaults, reaches the optimum of the sphere within its evaluations.

Ten dimensions, the box [-5, 5], an optimum that is not in its middle, 20,000 evaluations, float64.
A new algorithm is one row of ``TABLE``.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xla

import metahpo as mh
from metahpo import strategies

pytestmark = [pytest.mark.optimised, pytest.mark.slow]

DIMENSION, EVALUATIONS, SHARE = 10, 20_000, 0.95
SPACE = {"x": mh.Float(-5.0, 5.0, shape=(DIMENSION,))}


class Row(NamedTuple):
    make: Callable  # (space, population) -> Strategy
    population: int
    target: float = 1e-8
    rounds: int | None = None  # more of them where slots fall idle; fewer where each is costly
    seeds: int = 40


TABLE = {
    "differential_evolution": Row(strategies.differential_evolution, 40),
    "jade": Row(strategies.jade, 30),
    "shade": Row(strategies.shade, 100),
    "l_shade": Row(functools.partial(strategies.l_shade, evaluations=EVALUATIONS), 180, rounds=450),
    "cma_es": Row(strategies.cma_es, 10),
    "ipop_cma_es": Row(functools.partial(strategies.ipop_cma_es, doublings=3), 10),
    "bipop_cma_es": Row(functools.partial(strategies.bipop_cma_es, doublings=3), 10),
    "open_es": Row(strategies.open_es, 16, 1e-4),
    "snes": Row(strategies.snes, 10),
    "xnes": Row(strategies.xnes, 10),
    "genetic": Row(strategies.genetic, 40),
    "pso": Row(strategies.pso, 40),
    "spso2011": Row(functools.partial(strategies.pso, variant="spso2011"), 40),
    "pbt": Row(strategies.pbt, 16, 1e-4),
    "pbt_tournament": Row(functools.partial(strategies.pbt, selection="tournament"), 16, 1e-4),
    "pb2": Row(strategies.pb2, 16, rounds=260, seeds=20),
}


def lowest_loss(strategy, rounds, key):
    """The lowest loss of one run within the budget; idle slots cost nothing."""
    shift_key, init_key, run_key = jax.random.split(key, 3)
    optimum = jax.random.uniform(shift_key, (DIMENSION,), minval=-2.0, maxval=2.0)

    def step(carry, key):
        state, used, lowest = carry
        ask_key, tell_key = jax.random.split(key)
        proposal, state = strategy.ask(ask_key, state)
        x = jax.vmap(lambda unit: mh.space.decode(SPACE, unit)["x"])(proposal.unit)
        busy = proposal.budget > 0
        loss = jnp.where(busy, jnp.sum((x - optimum) ** 2, axis=1), jnp.inf)
        state = strategy.tell(tell_key, state, proposal, mh.Evaluation(loss, None, ()))
        used = used + busy.sum()
        lowest = jnp.where(used <= EVALUATIONS, jnp.minimum(lowest, loss.min()), lowest)
        return (state, used, lowest), None

    start = (strategy.init(init_key), 0, jnp.inf)
    return jax.lax.scan(step, start, jax.random.split(run_key, rounds))[0][2]


@pytest.mark.parametrize("name", TABLE)
def test_the_sphere_is_solved_in_at_least_19_of_20_runs(name):
    row = TABLE[name]
    with jax.enable_x64(True):
        run = functools.partial(
            lowest_loss,
            row.make(SPACE, row.population),
            row.rounds or EVALUATIONS // row.population,
        )
        jitted = jax.jit(jax.vmap(run), compiler_options=xla.LONG_RUN if name == "pb2" else None)
        lowest = jitted(jax.random.split(jax.random.key(0), row.seeds))
    assert np.mean(np.asarray(lowest) <= row.target) >= SHARE
