"""Estimators with a memory, driven over the windows of an episode."""

import jax

from metahpo.base import Estimator


def estimates(estimator: Estimator, key, hparams, count, task=None):
    """``count`` successive estimates from a fresh memory, stacked; ready for ``jit``, ``vmap``."""
    first, *rest = jax.random.split(key, count + 1)
    memory = estimator.init(first, hparams, task)

    def body(memory, key):
        estimate, memory = estimator.estimate(key, hparams, task, memory)
        return memory, estimate

    return jax.lax.scan(body, memory, jax.numpy.stack(rest))[1]
