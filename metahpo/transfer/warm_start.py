"""A search's first population from a prediction."""

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key


def warm_start(
    key: Key, mean: chex.Array, std: chex.Array, population: int, floor: float = 0.05
) -> chex.Array:
    """A population around a prediction, as wide as the prediction is uncertain.

    The first member is the prediction, the others are drawn from the normal distribution around it
    that is cut off at the cube's faces.

    Args:
        key: the source of the samples.
        mean: ``f[D]``, the predicted point of the unit cube.
        std: ``f[D]``, its uncertainty.
        population: members, at least 1.
        floor: the least standard deviation, so that a search still has something to explore where
            the ensemble is sure, and in dimensions that it does not predict.

    Returns:
        ``f[population, D]`` in the unit cube.

    Raises:
        ValueError: for no population, or a floor that is not positive.

    Example:
        >>> points = warm_start(jax.random.key(0), jnp.array([0.5, 1.0]), jnp.zeros(2), 4)
        >>> points.shape, points[0].tolist()
        ((4, 2), [0.5, 1.0])
    """
    population = checks.whole("population", population)
    checks.positive(floor=floor)
    mean = jnp.clip(mean, 0.0, 1.0)
    width = jnp.maximum(std, floor).astype(mean.dtype)
    shape = (population - 1, *mean.shape)
    noise = jax.random.truncated_normal(
        key, -mean / width, (1.0 - mean) / width, shape, dtype=mean.dtype
    )
    around = jnp.clip(mean + width * noise, 0.0, 1.0)
    return jnp.concatenate([mean[None], around])
