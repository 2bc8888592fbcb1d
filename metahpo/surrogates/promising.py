"""Where an acquisition function is highest: drawn candidates, then steps from the best of them.

Floats step along the gradient; integers and choices, which have none, try their neighbours.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metahpo import cube, draws
from metahpo.base import Key
from metahpo.space import Choice, Dimension, Float
from metahpo.surrogates.local_moves import Box, bounds, moved

ANYWHERE, NEAR = 256, 64  # candidates in the cube, and around each centre
INSIDE = 512  # in a box
LENGTHS = (0.4, 0.1, 0.025)  # of the boxes around the centres, in turn
STARTS, STEPS, RATE = 6, 12, 0.03
NEIGHBOURS, LENGTH = 8, 0.05  # tried at each step, in a box of such an edge

Value = Callable[[chex.Array], chex.Array]


class Where(NamedTuple):
    """Where to look.

    Attributes:
        rows: of ``d`` numbers of U(0, 1), ``R``, that its candidates take.
        candidates: ``(rows f[R, d]) -> f[M, d]``.
        low: ``f[d]``, what steps from there on do not leave.
        high: see ``low``.
        dtype: of the points.
        edges: ``f[d]``, if it is a box: what is near is so in these units.
    """

    rows: int
    candidates: Callable[[chex.Array], chex.Array]
    low: chex.Numeric
    high: chex.Numeric
    dtype: chex.ArrayDType
    edges: chex.Array | None = None


def everywhere(dims: Sequence[Dimension], centres: chex.Array) -> Where:
    """The unit cube, more closely near some points.

    Args:
        dims: of the ``d`` coordinates.
        centres: ``f[C, d]``, points whose surroundings are worth a look, such as the best so far.
    """
    count, size = centres.shape
    lengths = np.resize(LENGTHS, count).astype(centres.dtype)

    def candidates(rows: chex.Array) -> chex.Array:
        pairs = rows[ANYWHERE:].reshape(count, NEAR, 2 * size)
        near = jax.vmap(lambda *args: _near(dims, *args))(lengths, centres, pairs)
        return jnp.concatenate([rows[:ANYWHERE], near.reshape(-1, size)])

    return Where(ANYWHERE + 2 * NEAR * count, candidates, 0.0, 1.0, centres.dtype)


def within(dims: Sequence[Dimension], centre: chex.Array, edges: chex.Array) -> Where:
    """A box around a point, cut at the bounds of the cube; choices may be any, integers the next.

    Args:
        dims: of the ``d`` coordinates.
        centre: ``f[d]``.
        edges: ``f[d]``, of the box.
    """
    cells = jnp.asarray(cube.cell_widths(dims), centre.dtype)
    box = Box(dims, jnp.maximum(edges, 2 * cells), centre, 1 / len(dims))
    low, high = bounds(box, centre)
    choice = np.array([isinstance(dim, Choice) for dim in dims])
    return Where(
        2 * INSIDE,
        lambda rows: moved(box, centre, rows.reshape(INSIDE, -1)),
        jnp.where(choice, 0.0, low),
        jnp.where(choice, 1.0, high),
        centre.dtype,
        box.length,
    )


def candidates(key: Key, dims: Sequence[Dimension], where: Where) -> chex.Array:
    """``f[M, d]``: points there."""
    return where.candidates(draws.uniform(key, (where.rows, len(dims))).astype(where.dtype))


def highest(
    key: Key, value: Value, dims: Sequence[Dimension], where: Where, steps: int = STEPS
) -> chex.Array:
    """``f[d]``, a point of the cube at which ``value`` is as high as was found.

    Args:
        key: random key.
        value: ``(points f[M, d]) -> f[M]``.
        dims: of the ``d`` coordinates.
        where: to look.
        steps: from the best candidates.
    """
    size = len(dims)
    floats = np.array([isinstance(dim, Float) for dim in dims])
    later = 0 if floats.all() else 2 * steps * STARTS * NEIGHBOURS
    # All at once: the generator is a large part of the program.
    rows = draws.uniform(key, (where.rows + later, size)).astype(where.dtype)
    drawn = where.candidates(rows[: where.rows])
    values, order = jax.lax.top_k(value(drawn), STARTS)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))

    def step(carry: tuple, rows: chex.Array) -> tuple[tuple, None]:
        points, values, momenta = carry
        trials = []
        if floats.any():
            grad = jax.grad(lambda points: value(points).sum())(points)
            grad = jnp.where(floats & jnp.isfinite(grad), grad, 0.0)
            updates, momenta = optimizer.update(-grad, momenta)
            trials.append(jnp.clip(points + updates, where.low, where.high)[:, None])
        if not floats.all():
            lengths = jnp.full(STARTS, LENGTH, points.dtype)
            near = jax.vmap(lambda *args: _near(dims, *args))(lengths, points, rows)
            trials.append(jnp.clip(near, where.low, where.high))
        return (*_better(value, points, values, jnp.concatenate(trials, 1)), momenta), None

    start = (drawn[order], values, optimizer.init(drawn[order]))
    rows = rows[where.rows :].reshape(steps, STARTS, -1, 2 * size)
    (points, values, _), _ = jax.lax.scan(step, start, rows)
    return points[jnp.argmax(values)]


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
