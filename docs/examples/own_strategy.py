"""A strategy of one's own, in a file of one's own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import metahpo as mh


class Best(NamedTuple):
    unit: jax.Array
    loss: jax.Array


def local_search(space, population, width=0.1):
    """Gaussian steps around the best point so far, anywhere as long as there is none."""
    size = mh.space.size(space)

    def init(key):
        return Best(jax.random.uniform(key, (size,)), jnp.array(jnp.inf))

    def ask(key, state):
        near, far = jax.random.split(key)
        unit = state.unit + width * jax.random.normal(near, (population, size))
        anywhere = jax.random.uniform(far, (population, size))
        unit = jnp.where(jnp.isfinite(state.loss), unit, anywhere)
        scratch = jnp.full(population, -1)  # nobody goes on from a training
        budget = jnp.full(population, mh.base.FULL_BUDGET)
        return mh.Proposal(jnp.clip(unit, 0, 1), scratch, budget), state

    def tell(key, state, proposal, evaluation):
        i = jnp.argmin(evaluation.loss)
        new = Best(proposal.unit[i], evaluation.loss[i])
        return jax.tree.map(lambda a, b: jnp.where(new.loss < state.loss, a, b), new, state)

    return mh.Strategy(init, ask, tell, mh.Needs(trainings=False, budgets=False), space=space)


def main(rounds=40, seeds=60):
    mh.testing.check_strategy(local_search, seeds=seeds)
    problem = mh.problems.function(lambda h: (h["x"] - 0.3) ** 2 + (h["y"] + 0.2) ** 2)
    space = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(-1.0, 1.0)}
    methods = {
        "random": mh.strategies.random(space, population=8),
        "mine": local_search(space, population=8),
    }
    compared = mh.compare(problem, space, methods, budget=8 * rounds, steps=1)
    print(compared)
    return compared


if __name__ == "__main__":
    main()
