"""Crossover: two children from two parents, for all pairs at once.

A ``Crossover`` is ``(key, parents f[2, N, D]) -> children f[2, N, D]`` on the unit cube, for ``N``
pairs, each with its own draws.
"""

from collections.abc import Callable
from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks, draws
from metahpo import space as spaces
from metahpo.base import Key
from metahpo.space import Choice, Space

Crossover: TypeAlias = Callable[[Key, chex.Array], chex.Array]


def sbx(space: Space, eta: chex.Numeric = 15, coordinate_rate: chex.Numeric = 0.5) -> Crossover:
    """Simulated binary crossover (Deb & Agrawal 1995), bounded as in Deb's NSGA-II program.

    A coordinate that crosses over gets two values around the parents' mean, at a distance of half
    the parents' difference times a random factor: mostly near 1, below 1 as often as above, and
    cut off so that no child leaves the cube.  The two values go to the children in random order.
    So the children spread as the parents do, and the search contracts and widens by itself.

    Choices have no mean: their coordinates are exchanged with probability 1/2.

    Args:
        space: the search space.
        eta: distribution index, at least 0; the larger, the nearer are children to parents.  A
            Python integer is the fastest; may be traced.
        coordinate_rate: the probability that a coordinate crosses over; may be traced.

    Raises:
        ValueError: if ``eta`` is negative or ``coordinate_rate`` not a probability.

    Example:
        >>> import metahpo as mh
        >>> cross = sbx({"x": mh.Float(0.0, 1.0)}, coordinate_rate=1.0)
        >>> children = jax.jit(cross)(jax.random.key(0), jnp.array([[[0.4]], [[0.5]]]))
        >>> bool(jnp.allclose(children.sum(), 0.9))  # the mean is kept
        True
    """
    checks.at_least("eta", eta, 0)
    checks.probability("coordinate_rate", coordinate_rate)
    is_choice = np.array([isinstance(d, Choice) for d in spaces.dimensions(space).values()])

    def cross(key: Key, parents: chex.Array) -> chex.Array:
        flat = parents.reshape(2, -1)  # a short last axis fills no vector register
        # The second number decides: below the rate cross, below half the rate with swapped sides.
        u, decide = draws.uniforms(key, flat.shape[1:])
        side = jnp.array([[-1.0], [1.0]], flat.dtype)
        side = jnp.where(decide < coordinate_rate / 2, -side, side)
        children = jnp.where(decide < coordinate_rate, simulated_binary(u, flat, side, eta), flat)
        if is_choice.any():
            choice = jnp.tile(is_choice, parents.shape[1])
            children = jnp.where(choice, exchange(decide < 0.5, flat), children)
        return children.reshape(parents.shape)

    return cross


def simulated_binary(
    u: chex.Array, parents: chex.Array, side: chex.Array, eta: chex.Numeric
) -> chex.Array:
    """Children below (``side`` -1) and above (1) the parents' mean, in [0, 1].

    Args:
        u: ``f[...]``, uniform in [0, 1); both children use the same, as in the original.
        parents: ``f[2, ...]``.
        side: broadcasts to ``f[2, ...]``.
        eta: distribution index.

    Returns:
        ``f[2, ...]``.
    """
    low, high = jnp.minimum(*parents), jnp.maximum(*parents)
    gap = high - low
    # 1 / beta, beta the largest factor that keeps the child inside (NSGA-II's realcross).
    room = jnp.where(side < 0, low, 1.0 - high)
    inverse = gap / jnp.maximum(gap + 2.0 * room, jnp.finfo(gap.dtype).tiny)
    spread = spread_factor(u, inverse ** (eta + 1), eta)
    return jnp.clip(0.5 * (low + high + side * spread * gap), 0.0, 1.0)


def spread_factor(u: chex.Array, cut: chex.Numeric, eta: chex.Numeric) -> chex.Array:
    """The factor's quantile at ``u`` (Deb & Agrawal 1995, eqs. 8 and 9), at most ``cut``'s root.

    Unbounded (``cut = 0``) the density is ``(eta + 1) / 2 * b**eta`` up to 1 and
    ``(eta + 1) / 2 * b**-(eta + 2)`` above; ``cut = largest**-(eta + 1)`` conditions it on
    ``b <= largest``.
    """
    mass = u * (2.0 - cut)  # twice the unconditional distribution function
    power = jnp.where(mass <= 1.0, mass, 1.0 / (2.0 - mass))
    return root(power, eta + 1)


def root(x: chex.Array, degree: chex.Numeric) -> chex.Array:
    """``x ** (1 / degree)`` for ``x >= 0``; twice as fast as the power."""
    return jnp.exp(jnp.log(x) / degree)


def uniform(rate: chex.Numeric = 0.5) -> Crossover:
    """Uniform crossover (Syswerda 1989): every coordinate is exchanged by itself.

    Args:
        rate: the probability of an exchange; may be traced.

    Raises:
        ValueError: if ``rate`` is not a probability.

    Example:
        >>> cross = jax.jit(uniform(1.0))
        >>> cross(jax.random.key(0), jnp.array([[[1.0, 2.0]], [[3.0, 4.0]]])).tolist()
        [[[3.0, 4.0]], [[1.0, 2.0]]]
    """
    checks.probability("rate", rate)

    def cross(key: Key, parents: chex.Array) -> chex.Array:
        return exchange(draws.uniform(key, parents.shape[1:]) < rate, parents)

    return cross


def points(count: int = 2) -> Crossover:
    """Crossover at one or two points (Holland 1975): a run of coordinates is exchanged.

    One point exchanges everything from a random place between two coordinates to the end; two
    points exchange what lies between two random places, one of which may be the beginning.

    Args:
        count: 1 or 2.

    Raises:
        ValueError: for another ``count``.

    Example:
        >>> jax.jit(points(1))(jax.random.key(0), jnp.array([[[1.0, 2.0]], [[3.0, 4.0]]])).tolist()
        [[[1.0, 4.0]], [[3.0, 2.0]]]
    """
    if count not in (1, 2):
        raise ValueError(f"crossover has 1 or 2 points, got {count}")

    def cross(key: Key, parents: chex.Array) -> chex.Array:
        _, pairs, size = parents.shape
        u, v = draws.uniforms(key, (pairs, 1))
        gaps = max(size - 1, 1)
        if count == 1:
            start, end = 1 + jnp.floor(u * gaps), jnp.full_like(u, size)
        else:
            place = jnp.floor(u * size)
            other = (place + 1 + jnp.floor(v * gaps)) % size  # another place
            start, end = jnp.minimum(place, other), jnp.maximum(place, other)
        coordinate = jnp.arange(size)
        return exchange((coordinate >= start) & (coordinate < end), parents)

    return cross


def sometimes(cross: Crossover, rate: chex.Numeric = 0.9) -> Crossover:
    """Leaves a pair as it is with probability ``1 - rate``.

    Args:
        cross: what happens to the others.
        rate: may be traced.

    Raises:
        ValueError: if ``rate`` is not a probability.

    Example:
        >>> cross = sometimes(uniform(1.0), 0.0)
        >>> jax.jit(cross)(jax.random.key(0), jnp.array([[[1.0, 2.0]], [[3.0, 4.0]]])).tolist()
        [[[1.0, 2.0]], [[3.0, 4.0]]]
    """
    checks.probability("rate", rate)

    def crossed(key: Key, parents: chex.Array) -> chex.Array:
        rate_key, cross_key = jax.random.split(key)
        chosen = draws.uniform(rate_key, (parents.shape[1], 1)) < rate
        return jnp.where(chosen, cross(cross_key, parents), parents)

    return crossed


def exchange(where: chex.Array, parents: chex.Array) -> chex.Array:
    """Swaps the coordinates ``where`` (``bool[...]``) between the two of ``f[2, ...]``."""
    return jnp.where(where, parents[::-1], parents)
