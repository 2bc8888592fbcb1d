"""Where an acquisition function is highest: drawn candidates, then steps from the best of them.

Floats step along the gradient; integers and choices, which have none, try their neighbours.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metahpo import draws
from metahpo.base import Key
from metahpo.space import Dimension, Float
from metahpo.surrogates.local_moves import Box, moved

ANYWHERE, NEAR = 256, 64  # candidates in the cube, and around each centre
LENGTHS = (0.4, 0.1, 0.025)  # of the boxes around the centres, in turn
STARTS, STEPS, RATE = 6, 12, 0.03
NEIGHBOURS, LENGTH = 8, 0.05  # tried at each step, in a box of such an edge

Value = Callable[[chex.Array], chex.Array]


def candidates(key: Key, dims: Sequence[Dimension], centres: chex.Array) -> chex.Array:
    """``f[M, d]``: points of the cube, anywhere and near the centres ``f[C, d]``.

    Args:
        key: random key.
        dims: of the ``d`` coordinates.
        centres: points whose surroundings are worth a look, such as the best so far.
    """
    rows = draws.uniform(key, (_rows(centres), len(dims)))
    return _candidates(dims, centres, rows.astype(centres.dtype))


def highest(
    key: Key,
    value: Value,
    dims: Sequence[Dimension],
    centres: chex.Array,
    steps: int = STEPS,
) -> chex.Array:
    """``f[d]``, a point of the cube at which ``value`` is as high as was found.

    Args:
        key: random key.
        value: ``(points f[M, d]) -> f[M]``.
        dims: of the ``d`` coordinates.
        centres: ``f[C, d]``, as of ``candidates``.
        steps: from the best candidates.
    """
    size, first = len(dims), _rows(centres)
    floats = np.array([isinstance(dim, Float) for dim in dims])
    later = 0 if floats.all() else 2 * steps * STARTS * NEIGHBOURS
    # All at once: the generator is a large part of the program.
    rows = draws.uniform(key, (first + later, size)).astype(centres.dtype)
    drawn = _candidates(dims, centres, rows[:first])
    values, order = jax.lax.top_k(value(drawn), STARTS)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))

    def step(carry: tuple, rows: chex.Array) -> tuple[tuple, None]:
        points, values, momenta = carry
        trials = []
        if floats.any():
            grad = jax.grad(lambda points: value(points).sum())(points)
            grad = jnp.where(floats & jnp.isfinite(grad), grad, 0.0)
            updates, momenta = optimizer.update(-grad, momenta)
            trials.append(jnp.clip(points + updates, 0.0, 1.0)[:, None])
        if not floats.all():
            lengths = jnp.full(STARTS, LENGTH, points.dtype)
            trials.append(jax.vmap(lambda *args: _near(dims, *args))(lengths, points, rows))
        return (*_better(value, points, values, jnp.concatenate(trials, 1)), momenta), None

    start = (drawn[order], values, optimizer.init(drawn[order]))
    rows = rows[first:].reshape(steps, STARTS, -1, 2 * size)
    (points, values, _), _ = jax.lax.scan(step, start, rows)
    return points[jnp.argmax(values)]


def _rows(centres: chex.Array) -> int:
    return ANYWHERE + 2 * NEAR * len(centres)


def _candidates(dims: Sequence[Dimension], centres: chex.Array, rows: chex.Array) -> chex.Array:
    count, size = centres.shape
    lengths = np.resize(LENGTHS, count).astype(centres.dtype)
    pairs = rows[ANYWHERE:].reshape(count, NEAR, 2 * size)
    near = jax.vmap(lambda *args: _near(dims, *args))(lengths, centres, pairs)
    return jnp.concatenate([rows[:ANYWHERE], near.reshape(-1, size)])


def _near(
    dims: Sequence[Dimension], length: chex.Array, centre: chex.Array, rows: chex.Array
) -> chex.Array:
    return moved(Box(dims, length, centre, 1 / len(dims)), centre, rows)


def _better(
    value: Value, points: chex.Array, values: chex.Array, trials: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """Of every point ``f[S, d]`` the best of its trials ``f[S, T, d]``, or itself."""
    found = value(trials.reshape(-1, points.shape[1])).reshape(trials.shape[:2])
    best = jnp.argmax(found, axis=1)
    found = jnp.take_along_axis(found, best[:, None], 1)[:, 0]
    moved_to = jnp.take_along_axis(trials, best[:, None, None], 1)[:, 0]
    return (
        jnp.where((found > values)[:, None], moved_to, points),
        jnp.maximum(found, values),
    )
