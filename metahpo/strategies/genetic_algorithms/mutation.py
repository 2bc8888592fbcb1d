"""Mutation: every coordinate of every member by itself moves with some probability.

A ``Mutation`` is ``(key, unit f[N, D]) -> f[N, D]`` on the unit cube.

Integers and choices: a move that is shorter than a cell would change nothing, so a coordinate that
is hit always leaves its cell.  An integer whose move is too short steps to the next one in the
move's direction (inwards at a bound), a choice becomes any other choice with equal probability.

Only coordinates that are active move, and by default one of them in the mean.
"""

from collections.abc import Callable
from itertools import groupby
from typing import TypeAlias

import chex
import jax.numpy as jnp
import numpy as np

from metahpo import checks, cube, draws
from metahpo import space as spaces
from metahpo.base import Key
from metahpo.space import Choice, Int, Space
from metahpo.strategies.genetic_algorithms.crossover import root

Mutation: TypeAlias = Callable[[Key, chex.Array], chex.Array]


def polynomial(space: Space, eta: chex.Numeric = 20, rate: chex.Numeric | None = None) -> Mutation:
    """Polynomial mutation (Deb & Goyal 1996), bounded as in Deb's NSGA-II program.

    Up or down with probability 1/2 each; the density of a move by ``d`` falls like
    ``(1 - |d|)**eta`` and is cut off at the bound.

    Args:
        space: the search space.
        eta: distribution index, at least 0: moves are of the order of ``1 / eta``.  A Python
            integer is the fastest; may be traced.
        rate: the probability that a coordinate moves, ``1 / D`` by default; may be traced.

    Raises:
        ValueError: if ``eta`` is negative or ``rate`` not a probability.

    Example:
        >>> import jax, metahpo as mh
        >>> mutate = polynomial({"x": mh.Float(0.0, 1.0)}, rate=1.0)
        >>> bool(jax.jit(mutate)(jax.random.key(0), jnp.array([[0.5]]))[0, 0] != 0.5)
        True
    """
    checks.at_least("eta", eta, 0)
    return _independent(space, rate, lambda u, unit: polynomial_move(u, unit, eta))


def gaussian(space: Space, sigma: chex.Numeric = 0.1, rate: chex.Numeric | None = None) -> Mutation:
    """Gaussian mutation, reflected at the bounds.

    Args:
        space: the search space.
        sigma: positive standard deviation in the unit cube, a scalar or ``f[D]``; may be traced.
        rate: the probability that a coordinate moves, ``1 / D`` by default; may be traced.

    Raises:
        ValueError: if ``sigma`` is not positive or ``rate`` not a probability.

    Example:
        >>> import jax, metahpo as mh
        >>> mutate = gaussian({"x": mh.Float(0.0, 1.0)}, sigma=3.0, rate=1.0)
        >>> bool(jax.jit(mutate)(jax.random.key(0), jnp.array([[0.5]])).max() <= 1.0)
        True
    """
    checks.positive(sigma=sigma)

    def moved(u: chex.Array, unit: chex.Array) -> chex.Array:
        lengths = sigma if jnp.ndim(sigma) == 0 else jnp.tile(sigma, unit.size // jnp.size(sigma))
        return cube.reflected(unit + lengths * draws.normal(u))

    return _independent(space, rate, moved)


def breeder(
    space: Space,
    largest: chex.Numeric = 0.3,
    smallest: chex.Numeric = 3e-7,
    rate: chex.Numeric | None = None,
) -> Mutation:
    """The breeder genetic algorithm's mutation (Muehlenbein & Schlierkamp-Voosen 1993).

    Up or down with probability 1/2 each, by a length whose logarithm is uniform: steps of every
    size are equally likely, so that a population that keeps the best converges linearly without
    adapting anything, and still leaves local optima.  (The paper's length is a random sum of powers
    of two, on the same scale.)  A move beyond a bound ends there, so that an optimum on it is hit.

    Args:
        space: the search space.
        largest: length in the unit cube; may be traced.
        smallest: positive, at most ``largest``: how fine the search becomes; may be traced.
        rate: the probability that a coordinate moves, ``1 / D`` by default; may be traced.

    Raises:
        ValueError: unless ``0 < smallest <= largest``, or if ``rate`` is not a probability.

    Example:
        >>> import jax, metahpo as mh
        >>> mutate = breeder({"x": mh.Float(0.0, 1.0)}, largest=0.1, smallest=0.01, rate=1.0)
        >>> moved = mutate(jax.random.key(0), jnp.array([[0.5]]))
        >>> bool(0.01 <= abs(moved[0, 0] - 0.5) <= 0.1)
        True
    """
    if checks.known(smallest, largest) and not 0 < smallest <= largest:
        raise ValueError(f"a move needs 0 < smallest <= largest, got {smallest} and {largest}")

    def moved(u: chex.Array, unit: chex.Array) -> chex.Array:
        up, share = u >= 0.5, 2.0 * jnp.where(u < 0.5, u, u - 0.5)
        length = largest * jnp.exp(share * (jnp.log(smallest) - jnp.log(largest)))
        return jnp.clip(jnp.where(up, unit + length, unit - length), 0.0, 1.0)

    return _independent(space, rate, moved)


def cells(space: Space, rate: chex.Numeric | None = None) -> Mutation:
    """Moves integers and choices only: one step up or down, or to any other choice.

    Args:
        space: the search space.
        rate: the probability that a coordinate moves, ``1 / D`` by default; may be traced.

    Raises:
        ValueError: if ``rate`` is not a probability.

    Example:
        >>> import jax, metahpo as mh
        >>> mutate = cells({"n": mh.Int(0, 1), "x": mh.Float(0.0, 1.0)}, rate=1.0)
        >>> jax.jit(mutate)(jax.random.key(0), jnp.array([[0.25, 0.5]])).tolist()
        [[0.75, 0.5]]
    """
    return _independent(space, rate, lambda u, unit: unit)


def _independent(
    space: Space,
    rate: chex.Numeric | None,
    moved: Callable[[chex.Array, chex.Array], chex.Array],
) -> Mutation:
    """Applies ``moved(u, unit)``, ``u`` uniform, both flat ``f[N D]``, to some coordinates."""
    if rate is not None:
        checks.probability("rate", rate)
    size, conditional = spaces.size(space), spaces.is_conditional(space)

    def hits(unit: chex.Array, decide: chex.Array) -> chex.Array:
        if not conditional:
            return decide < (1.0 / size if rate is None else rate)
        active = spaces.active(space, unit)
        probability = 1.0 / active.sum(axis=1, keepdims=True) if rate is None else rate
        return (active & (decide.reshape(unit.shape) < probability)).ravel()

    def mutate(key: Key, unit: chex.Array) -> chex.Array:
        flat = unit.ravel()  # a short last axis fills no vector register
        u, decide = draws.uniforms(key, flat.shape)
        new = leave_cells(space, u, flat, moved(u, flat))
        return jnp.where(hits(unit, decide), new, flat).reshape(unit.shape)

    return mutate


def polynomial_move(u: chex.Array, unit: chex.Array, eta: chex.Numeric) -> chex.Array:
    """The quantile at ``u`` of the bounded polynomial distribution around ``unit``."""
    down = u < 0.5
    near = 1.0 - jnp.where(down, unit, 1.0 - unit)
    mass = 2.0 * jnp.where(down, u, 1.0 - u)
    length = 1.0 - root(mass + (1.0 - mass) * near ** (eta + 1), eta + 1)
    return jnp.clip(jnp.where(down, unit - length, unit + length), 0.0, 1.0)


def leave_cells(space: Space, u: chex.Array, unit: chex.Array, moved: chex.Array) -> chex.Array:
    """``moved``, with integers and choices that are certainly not in the cells of ``unit``.

    Args:
        space: the search space.
        u: ``f[N D]``, uniform in [0, 1): which other choice; the direction of no move at all.
        unit: ``f[N D]`` before the move.
        moved: ``f[N D]`` after it.

    Returns:
        ``f[N D]``.  An integer or choice with a single value stays.
    """
    if spaces.is_continuous(space).all():
        return moved
    alike = [(dim, len(list(run))) for dim, run in groupby(spaces.dimensions(space).values())]
    ends = np.cumsum([count for _, count in alike])
    columns = [jnp.split(x.reshape(-1, ends[-1]), ends[:-1], axis=1) for x in (u, unit, moved)]
    done = []
    for (dim, _), chance, old, new in zip(alike, *columns, strict=True):
        if isinstance(dim, Choice):
            new = dim.encode(cube.another_choice(dim, dim.decode(old), chance))
        elif isinstance(dim, Int):
            up = jnp.where(new == old, chance >= 0.5, new > old)
            new = _other_integer(dim, up, old, new)
        done.append(new.astype(moved.dtype))
    return jnp.concatenate(done, axis=1).ravel()


def _other_integer(dim: Int, up: chex.Array, old: chex.Array, new: chex.Array) -> chex.Array:
    value = dim.decode(old)
    next_one = dim.encode(cube.next_number(dim, value, up))
    return jnp.where(dim.decode(new) == value, next_one, new)
