"""A strategy and an estimator of one's own, in a file of one's own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import metahpo as mh


class Best(NamedTuple):
    unit: jax.Array
    loss: jax.Array


def local_search(space, population, width=0.1):
    """Gaussian steps around the best point so far."""
    size = mh.space.size(space)

    def init(key):
        return Best(jax.random.uniform(key, (size,)), jnp.array(jnp.inf))

    def ask(key, state):
        unit = state.unit + width * jax.random.normal(key, (population, size))
        scratch = jnp.full(population, -1)  # nobody goes on from a training
        budget = jnp.full(population, mh.base.FULL_BUDGET)
        return mh.Proposal(jnp.clip(unit, 0, 1), scratch, budget), state

    def tell(key, state, proposal, evaluation):
        i = jnp.argmin(evaluation.loss)
        new = Best(proposal.unit[i], evaluation.loss[i])
        return jax.tree.map(lambda a, b: jnp.where(new.loss < state.loss, a, b), new, state)

    return mh.Strategy(init, ask, tell, mh.Needs(trainings=False, budgets=False), space=space)


def central_differences(problem, steps, width=1e-2):
    """Of the outer loss with respect to scalar hyperparameters."""
    loss = mh.inner.outer_loss(problem, steps)

    def estimate(key, hparams, task, memory):
        def slope(name):
            up, down = ({**hparams, name: hparams[name] + s * width} for s in (1, -1))
            return (loss(key, up, task)[0] - loss(key, down, task)[0]) / (2 * width)

        grad = {name: slope(name) for name in hparams}
        return mh.Estimate(loss(key, hparams, task)[0], grad, {}), memory

    return mh.Estimator(lambda key, hparams, task: (), estimate)


def main(rounds=40):
    problem = mh.problems.function(lambda h: (h["x"] - 0.3) ** 2 + (h["y"] + 0.2) ** 2)
    space = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(-1.0, 1.0)}
    search = jax.jit(
        lambda key: mh.search(
            key, problem, space, local_search(space, population=8), rounds=rounds, steps=1
        )
    )
    found = search(jax.random.key(0)).best_hparams
    start = {"x": jnp.array(1.0), "y": jnp.array(1.0)}
    estimator = central_differences(problem, steps=1)
    learned = mh.meta_train(
        jax.random.key(1), problem, estimator, start, optax.sgd(0.1), rounds=rounds, tasks=1
    ).hparams
    print({name: round(float(x), 2) for name, x in found.items()})
    print({name: round(float(x), 2) for name, x in learned.items()})
    return found, learned


if __name__ == "__main__":
    main()
