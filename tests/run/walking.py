"""A strategy, a function and a run of them that tests of ``minimize`` share."""

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from metahpo.base import FULL_BUDGET, Proposal, Strategy
from metahpo.run import minimize

SPACE = {"x": mh.Float(-1.0, 1.0), "n": mh.Int(1, 9), "kind": mh.Choice(("round", "square"))}


def walker(population=4, parent=-1):
    """A strategy whose proposals depend on its keys and on what it was told."""

    def init(key):
        return jax.random.uniform(key, (3,)), jnp.inf

    def ask(key, state):
        unit = jnp.clip(state[0] + 0.2 * jax.random.normal(key, (population, 3)), 0.0, 1.0)
        full = jnp.full(population, FULL_BUDGET, jnp.int32)
        return Proposal(unit, jnp.full(population, parent, jnp.int32), full), state

    def tell(key, state, proposal, evaluation):
        i = jnp.argmin(evaluation.loss)
        better = evaluation.loss[i] < state[1]
        return jax.tree.map(
            lambda new, old: jnp.where(better, new, old),
            (proposal.unit[i], evaluation.loss[i]),
            state,
        )

    return Strategy(init, ask, tell)


def loss(h):
    # Computed in single precision and without sums of products, so XLA and numpy agree to the bit.
    x = np.float32(h["x"]) - np.float32(0.25)
    return max(float(x * x), abs(h["n"] - 4) / 4, float(h["kind"] == "square"))


def run(fn=loss, space=SPACE, strategy=None, rounds=5, **options):
    return minimize(fn, space, strategy or walker(), rounds=rounds, progress=False, **options)


def as_bytes(result):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.history)]
