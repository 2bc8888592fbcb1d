"""Greedy selection of an ensemble.

Source: Caruana, Niculescu-Mizil, Crew & Ksikes, "Ensemble selection from libraries of models"
(2004).
"""

from collections.abc import Callable
from functools import lru_cache

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo.automl.metrics import Metric
from metahpo.automl.tables.padding import Table

STEPS = 40
"""The most that are taken, with replacement."""
_FEWEST = 16  # members that the program is compiled for


def greedy(predictions: np.ndarray, table: Table, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Takes, again and again, the member that makes the mean of those taken best.

    Args:
        predictions: ``f32[T, N, P]``, out of fold; those with numbers that are not finite are
            never taken.
        table: that they are of.
        metric: whose loss is to be low.

    Returns:
        ``f64[T]`` weights with the sum 1, of the steps up to the lowest loss, and ``f[STEPS]`` the
        losses after every step.
    """
    size = _FEWEST
    while size < len(predictions):
        size *= 2
    padded = np.full((size, *predictions.shape[1:]), np.nan, np.float32)
    padded[: len(predictions)] = predictions
    taken, losses = map(np.asarray, _selection(metric)(padded, table))
    count = int(np.argmin(losses)) + 1
    weights = np.bincount(taken[:count], minlength=size)[: len(predictions)]
    return weights / count, losses


@lru_cache(maxsize=32)
def _selection(metric: Metric) -> Callable[[chex.Array, Table], tuple[chex.Array, chex.Array]]:
    def run(predictions: chex.Array, table: Table) -> tuple[chex.Array, chex.Array]:
        there = jnp.isfinite(predictions).all((1, 2))
        known = jnp.where(there[:, None, None], predictions, 0.0)

        def step(total: chex.Array, t: chex.Array) -> tuple[chex.Array, tuple]:
            def loss(own: chex.Array) -> chex.Array:
                return metric.loss((total + own) / (t + 1), table.y, table.weight, table.classes)

            losses = jnp.where(there, jax.lax.map(loss, known), jnp.inf)
            best = jnp.argmin(losses)
            return total + known[best], (best, losses[best])

        start = jnp.zeros(predictions.shape[1:])
        _, (taken, losses) = jax.lax.scan(step, start, jnp.arange(STEPS))
        return taken, losses

    return jax.jit(run)
