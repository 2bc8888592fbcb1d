"""A population based training in a few operations, for tests of runs that compile quickly."""

import jax
import jax.numpy as jnp

from metahpo import space as spaces
from metahpo.base import FULL_BUDGET, Proposal, Strategy


def copying(space, population):
    """The worse half copies the best member; everybody moves."""
    size = spaces.size(space)

    def init(key):
        unit = jax.random.uniform(key, (population, size))
        return unit, jnp.full(population, -1, jnp.int32)

    def ask(key, state):
        return Proposal(*state, jnp.full(population, FULL_BUDGET, jnp.int32)), state

    def tell(key, state, proposal, evaluation):
        bad = evaluation.loss >= jnp.median(evaluation.loss)
        parent = jnp.where(bad, jnp.argmin(evaluation.loss), jnp.arange(population))
        noise = jax.random.uniform(key, proposal.unit.shape, minval=-0.1, maxval=0.1)
        return jnp.clip(proposal.unit[parent] + noise, 0, 1), parent.astype(jnp.int32)

    return Strategy(init, ask, tell)
