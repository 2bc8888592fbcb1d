"""The quadratics on which learning to learn was first shown."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, TaskFamily


class UniformQuadratic(NamedTuple):
    """``|W x - y|^2``: ``matrix`` f[n, n], ``target`` f[n] and the ``start`` f[n]."""

    matrix: chex.Array
    target: chex.Array
    start: chex.Array


def uniform_quadratics(dimension: int = 10, spread: float = 0.01) -> TaskFamily:
    """``|W x - y|^2`` with the entries of ``W`` and ``y`` uniform in [0, 1].

    As the published code of Andrychowicz et al. 2016 draws them, with ``x`` from a normal
    distribution at first.  The minimum is 0; ``W`` has one large singular value, about ``n / 2``,
    and others down to nearly 0, so the condition number of a task is some thousands.

    Args:
        dimension: ``n``.
        spread: standard deviation of the start.

    Returns:
        A TaskFamily with params ``f[n]``; support and query loss are the same.

    Raises:
        ValueError: for no dimension, or a spread that is not positive.

    Example:
        >>> import metahpo as mh
        >>> family = mh.problems.uniform_quadratics()
        >>> task = family.sample(jax.random.key(0))
        >>> x = jnp.linalg.solve(task.matrix, task.target)
        >>> bool(family.loss(x, task, "query") < 1e-6)
        True
    """
    dimension = checks.whole("dimension", dimension)
    checks.positive(spread=spread)

    def sample(key: Key) -> UniformQuadratic:
        matrix_key, target_key, start_key = jax.random.split(key, 3)
        matrix = jax.random.uniform(matrix_key, (dimension, dimension))
        target = jax.random.uniform(target_key, (dimension,))
        return UniformQuadratic(matrix, target, spread * jax.random.normal(start_key, (dimension,)))

    def init(key: Key, task: UniformQuadratic) -> chex.Array:
        del key
        return task.start

    def loss(params: chex.Array, task: UniformQuadratic, split: str) -> chex.Array:
        del split
        return jnp.sum((task.matrix @ params - task.target) ** 2)

    return TaskFamily(sample, init, loss)
