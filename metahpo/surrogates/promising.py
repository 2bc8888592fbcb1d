"""Where an acquisition function is highest: drawn candidates, then gradients and local moves.

Floats climb along the gradient; integers and choices, which have none, try their neighbours.
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
STARTS, CLIMBS, RATE = 6, 12, 0.03
NEIGHBOURS = 16  # of each start, before and after it climbs


def highest(
    key: Key,
    value: Callable[[chex.Array], chex.Array],
    dims: Sequence[Dimension],
    centres: chex.Array,
) -> chex.Array:
    """``f[d]``, a point of the cube at which ``value`` is as high as was found.

    Args:
        key: random key.
        value: ``(points f[M, d]) -> f[M]``.
        dims: of the ``d`` coordinates.
        centres: ``f[C, d]``, points whose surroundings are worth a look, such as the best so far.
    """
    size, count = len(dims), len(centres)
    floats = np.array([isinstance(dim, Float) for dim in dims])
    keys = jax.random.split(key, 4)
    dtype = centres.dtype
    drawn = [draws.uniform(keys[0], (ANYWHERE, size)).astype(dtype)]
    rows = draws.uniform(keys[1], (count, NEAR, 2 * size)).astype(dtype)
    for i in range(count):
        box = _box(dims, LENGTHS[i % len(LENGTHS)], centres[i])
        drawn.append(moved(box, centres[i], rows[i]))
    candidates = jnp.concatenate(drawn)
    _, order = jax.lax.top_k(value(candidates), STARTS)
    points = candidates[order]
    if not floats.all():
        points = _better_neighbours(keys[2], value, dims, points)
    if floats.any():
        points = _climbed(value, floats, points)
        if not floats.all():
            points = _better_neighbours(keys[3], value, dims, points)
    return points[jnp.argmax(value(points))]


def _box(dims: Sequence[Dimension], length: float, origin: chex.Array) -> Box:
    return Box(dims, jnp.asarray(length, origin.dtype), origin, 1 / len(dims))


def _climbed(
    value: Callable[[chex.Array], chex.Array], floats: np.ndarray, points: chex.Array
) -> chex.Array:
    """Adam on the floats, within the cube; the best on each way."""
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, CLIMBS))

    def total(points: chex.Array) -> tuple[chex.Array, chex.Array]:
        values = value(points)
        return -values.sum(), values

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        points, state, best, highest = carry
        grad, values = jax.grad(total, has_aux=True)(points)
        better = values > highest
        best = jnp.where(better[:, None], points, best)
        grad = jnp.where(floats & jnp.isfinite(grad), grad, 0.0)
        updates, state = optimizer.update(grad, state)
        moved = jnp.clip(points + updates, 0.0, 1.0)
        return (moved, state, best, jnp.maximum(values, highest)), None

    lowest = jnp.full(len(points), -jnp.inf, points.dtype)
    start = (points, optimizer.init(points), points, lowest)
    (last, _, best, highest), _ = jax.lax.scan(step, start, None, CLIMBS)
    return jnp.where((value(last) > highest)[:, None], last, best)


def _better_neighbours(
    key: Key,
    value: Callable[[chex.Array], chex.Array],
    dims: Sequence[Dimension],
    points: chex.Array,
) -> chex.Array:
    """The best of each point's neighbours, or itself."""
    count, size = points.shape
    rows = draws.uniform(key, (count, NEIGHBOURS, 2 * size)).astype(points.dtype)
    near = jax.vmap(lambda point, row: moved(_box(dims, 0.05, point), point, row))(points, rows)
    everyone = jnp.concatenate([points[:, None], near], axis=1)
    values = value(everyone.reshape(-1, size)).reshape(count, -1)
    return jnp.take_along_axis(everyone, jnp.argmax(values, 1)[:, None, None], 1)[:, 0]
