"""A training whose every step draws examples: regression of a sinusoid by Adam."""

import jax
import optax

import metahpo as mh


def some(key, task):
    """Four of the support examples."""
    rows = jax.random.randint(key, (4,), 0, 10)
    return task._replace(support=jax.tree.map(lambda x: x[rows], task.support))


FAMILY = mh.problems.sinusoid(shots=10)
PROBLEM = mh.problems.training(FAMILY, lambda h: optax.adam(h["lr"]), minibatch=some)
