"""Where the upper confidence bound of a Gaussian process is highest, for one member after another.

The bound is maximised over drawn candidates and then over neighbours of the best one, in the whole
cube or in the trust region of each member.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import cube, draws
from metahpo.base import Key
from metahpo.space import Dimension
from metahpo.surrogates import local_moves
from metahpo.surrogates.gaussian_process import Posterior, imagined, predict
from metahpo.surrogates.kernels import Kernel

CANDIDATES = 128  # for every suggestion
NEIGHBOURS, RADII = 32, (0.1, 0.03)  # of the best one so far, in edges of where it is searched


class Search(NamedTuple):
    """Where to look, and what the process sees of it.

    Attributes:
        size: coordinates, ``d``.
        numbers: of U(0, 1) that a candidate takes, ``W``.
        candidates: ``(member i32[], rows f[M, W]) -> f[M, d]``.
        neighbours: ``(member, best f[d], rows f[M, W], radius) -> f[M, d]``.
        embed: ``f[M, d] -> f[M, F]``, the process's columns.
    """

    size: int
    numbers: int
    candidates: Callable[[chex.Array, chex.Array], chex.Array]
    neighbours: Callable[[chex.Array, chex.Array, chex.Array, float], chex.Array]
    embed: Callable[[chex.Array], chex.Array]


def everywhere(dims: Sequence[Dimension]) -> Search:
    """The whole unit cube of ordered dimensions, for everybody."""

    def neighbours(
        member: chex.Array, best: chex.Array, rows: chex.Array, radius: float
    ) -> chex.Array:
        return cube.reflected(best + radius * (2 * rows - 1))

    return Search(
        len(dims),
        len(dims),
        lambda member, rows: rows,
        neighbours,
        lambda points: cube.snapped(dims, points),
    )


def around(box: local_moves.Box, centres: chex.Array) -> Search:
    """A box around each member's centre, ``f[P, d]``."""
    return Search(
        len(box.dims),
        2 * len(box.dims),
        lambda member, rows: local_moves.moved(box, centres[member], rows),
        lambda member, best, rows, radius: local_moves.refined(
            box, centres[member], best, rows, radius
        ),
        lambda points: local_moves.embedded(box, points),
    )


def suggestions(
    key: Key,
    kernel: Kernel,
    process: Posterior,
    slot: int,
    wanted: chex.Array,
    exploration: chex.Numeric,
    search: Search,
) -> chex.Array:
    """``f[P, d]``: one point after the other for each of the ``wanted`` members, 0 for the rest.

    Args:
        key: random key.
        kernel: of the process.
        process: with ``P`` empty slots from ``slot`` on.
        slot: see above.
        wanted: ``bool[P]``.
        exploration: standard deviations above the mean.
        search: where.
    """
    population = len(wanted)
    dtype = process.data.x.dtype
    members = jnp.argsort(~wanted)

    def bound(process: Posterior, points: chex.Array) -> chex.Array:
        mean, variance = predict(kernel, process, search.embed(points))
        return mean + exploration * jnp.sqrt(variance)

    def suggest(i: chex.Array, carry: tuple[Posterior, chex.Array]) -> tuple[Posterior, chex.Array]:
        process, points = carry
        member = members[i]
        rows = draws.uniform(
            jax.random.fold_in(key, i), (CANDIDATES + len(RADII) * NEIGHBOURS, search.numbers)
        ).astype(dtype)
        drawn = search.candidates(member, rows[:CANDIDATES])
        value = bound(process, drawn)
        best, value = drawn[jnp.argmax(value)], value.max()
        for j, radius in enumerate(RADII):
            start = CANDIDATES + j * NEIGHBOURS
            near = search.neighbours(member, best, rows[start : start + NEIGHBOURS], radius)
            values = bound(process, near)
            best = jnp.where(values.max() > value, near[jnp.argmax(values)], best)
            value = jnp.maximum(values.max(), value)
        process = imagined(kernel, process, slot + i, search.embed(best[None])[0])
        return process, points.at[member].set(best)

    start = (process, jnp.zeros((population, search.size), dtype))
    return jax.lax.fori_loop(0, wanted.sum(), suggest, start)[1]
