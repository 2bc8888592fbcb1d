"""Grid search in a fair order."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Choice, Dimension, Float, Space
from metahpo.strategies import parts

DEFAULT_POINTS = 4
LARGEST_GRID = 2**32 - 1  # positions are uint32


class GridState(NamedTuple):
    """The key of the order (``None`` for the lexicographic one) and the next position."""

    key: Key | None
    position: chex.Array  # u32[]


def grid(
    space: Space,
    population: int,
    points: int | Mapping[str, int] = DEFAULT_POINTS,
    shuffle: bool = True,
) -> Strategy:
    """The full factorial over the centres of equal cells, ``population`` points a round.

    A budget rarely covers a whole grid, so its points come in a random order: then whatever part
    was visited is a fair sample of the grid.  The order is a permutation that is computed point by
    point, so a grid of billions of points costs no memory.  After the last point it starts again.
    What belongs to a branch of a ``OneOf`` is combined with that branch alone.

    Args:
        space: the search space.
        population: points a round, ``P``.
        points: levels of every dimension, or of the dimensions named in a mapping (the others get
            the default).  ``n`` levels of a ``Float`` stand at ``(i + 1/2) / n`` of the unit
            interval.  An ``Int`` has at most as many levels as distinct values, and a ``Choice``
            has all its values unless the mapping gives it fewer.
        shuffle: ``False`` visits the grid in lexicographic order, the last dimension fastest.

    Returns:
        A Strategy.  ``grid_size`` tells the number of its points.

    Raises:
        ValueError: if ``population`` or a number of points is not a whole number of at least 1, a
            name is unknown, or the grid has ``2**32`` points or more.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(0.0, 1.0), "act": mh.Choice(("relu", "tanh"))}
        >>> strategy = grid(space, population=4, points=2, shuffle=False)
        >>> state = strategy.init(jax.random.key(1))
        >>> proposal, _ = jax.jit(strategy.ask)(jax.random.key(0), state)
        >>> proposal.unit.tolist()  # sorted names: act, x
        [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]]
    """
    population = parts.check_population("grid", population)
    factors = _factors(space, points)
    total = _total(factors)

    def init(key: Key) -> GridState:
        return GridState(key if shuffle else None, jnp.zeros((), jnp.uint32))

    def ask(key: Key, state: GridState) -> tuple[Proposal, GridState]:
        del key
        positions = _advance(state.position, np.arange(population) % total, total)
        indices = positions
        if state.key is not None:
            indices = permute(state.key, positions, total)
        following = _advance(state.position, np.asarray(population % total), total)
        return parts.proposal(_points(space, factors, indices)), state._replace(position=following)

    def tell(key: Key, state: GridState, proposal: Proposal, evaluation: Evaluation) -> GridState:
        del key, proposal, evaluation
        return state

    return Strategy(init, ask, tell, parts.SCRATCH._replace(order=False), space=space)


def grid_size(space: Space, points: int | Mapping[str, int] = DEFAULT_POINTS) -> int:
    """The number of points of ``grid(space, ..., points)``.

    Example:
        >>> import metahpo as mh
        >>> grid_size({"x": mh.Float(0.0, 1.0), "n": mh.Int(1, 2)}, points=5)
        10
    """
    return _total(_factors(space, points))


def permute(key: Key, index: chex.Array, total: int) -> chex.Array:
    """A random permutation of ``0 .. total - 1``, computed at the given positions alone.

    The swap-or-not shuffle (Hoang, Morris & Rogaway 2012): each round pairs ``x`` with ``K - x``
    for a random ``K`` and swaps every pair or not, as a random bit of the pair decides.  Every
    round is a bijection, and about ``6 log2(total)`` of them are as good as a uniform permutation.

    Args:
        key: decides the permutation.
        index: ``u32[...]`` in ``[0, total)``.
        total: number of elements, in ``[1, 2**32)``.

    Returns:
        ``u32`` of ``index``'s shape.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> order = permute(jax.random.key(0), jnp.arange(5, dtype=jnp.uint32), 5)
        >>> sorted(order.tolist())
        [0, 1, 2, 3, 4]
    """
    rounds = 6 * math.ceil(math.log2(max(total, 2))) + 20
    size = jnp.uint32(total)

    def swap_or_not(x: chex.Array, round_key: Key) -> tuple[chex.Array, None]:
        pivot_key, bit_key = jax.random.split(round_key)
        pivot = jax.random.bits(pivot_key, dtype=jnp.uint32) % size
        partner = jnp.where(pivot >= x, pivot - x, size - (x - pivot))
        pair = jnp.maximum(x, partner)
        bit = jax.vmap(lambda p: jax.random.bits(jax.random.fold_in(bit_key, p)))(pair.ravel())
        swap = (bit % 2 == 1).reshape(x.shape)
        return jnp.where(swap, partner, x), None

    return jax.lax.scan(swap_or_not, index, jax.random.split(key, rounds))[0]


def _levels(space: Space, points: int | Mapping[str, int]) -> list[np.ndarray]:
    """The levels of every dimension on the unit interval."""
    dims = spaces.dimensions(space)
    given = points if isinstance(points, Mapping) else dict.fromkeys(dims, points)
    parts.named(space, list(given))
    for name, count in given.items():
        checks.whole(f"points of {name!r}", count)
    levels = []
    for name, dim in dims.items():
        count = given.get(name, DEFAULT_POINTS)
        if isinstance(dim, Choice) and not (isinstance(points, Mapping) and name in points):
            count = len(dim.values)
        levels.append(_dimension_levels(dim, int(count)))
    return levels


def _dimension_levels(dim: Dimension, count: int) -> np.ndarray:
    centres = (np.arange(count) + 0.5) / count
    if isinstance(dim, Float):
        return centres
    first, last = (0, len(dim.values) - 1) if isinstance(dim, Choice) else (dim.low, dim.high)
    with jax.ensure_compile_time_eval():  # the levels are constants even inside a trace
        if count > last - first:
            return np.asarray(dim.encode(np.arange(first, last + 1)))
        # On a logarithmic scale several centres may lie in the cell of one small number.
        _, distinct = np.unique(dim.decode(jnp.asarray(centres)), return_index=True)
        return centres[distinct]


class _Factor(NamedTuple):
    """A dimension of the grid.

    Attributes:
        column: of the unit cube.
        levels: ``f64[n]``.
        below: for each level the dimensions that exist only there.
    """

    column: int
    levels: np.ndarray
    below: list[list["_Factor"]]

    def sizes(self) -> list[int]:
        """How many points there are for each level."""
        return [_product(factors) for factors in self.below]


def _product(factors: list[_Factor]) -> int:
    return math.prod(sum(factor.sizes()) for factor in factors)


def _factors(space: Space, points: int | Mapping[str, int]) -> list[_Factor]:
    levels, needed = _levels(space, points), spaces.conditions(space)

    def under(chain: tuple[spaces.Condition, ...]) -> list[_Factor]:
        return [made(column, chain) for column, own in enumerate(needed) if own == chain]

    def made(column: int, chain: tuple[spaces.Condition, ...]) -> _Factor:
        ahead = [own[len(chain)] for own in needed if own[: len(chain)] == chain and own != chain]
        branches = {each.branch: each for each in ahead if each.column == column}
        if not branches:
            return _Factor(column, levels[column], [[] for _ in levels[column]])
        with jax.ensure_compile_time_eval():
            choice = next(iter(branches.values())).choice
            indices = np.asarray(choice.decode(levels[column])).tolist()
        below = [under((*chain, branches[i])) if i in branches else [] for i in indices]
        return _Factor(column, levels[column], below)

    return under(())


def _total(factors: list[_Factor]) -> int:
    total = _product(factors)
    if total > LARGEST_GRID:
        raise ValueError(
            f"a grid may have at most {LARGEST_GRID} points, this one has {total}; "
            "give it fewer points or use random search"
        )
    return total


def _advance(position: chex.Array, steps: np.ndarray, total: int) -> chex.Array:
    """``(position + steps) mod total`` for ``steps < total``, without overflow."""
    step, left = jnp.asarray(steps, jnp.uint32), jnp.uint32(total) - position
    return jnp.where(step < left, position + step, step - left)


def _points(space: Space, factors: list[_Factor], indices: chex.Array) -> chex.Array:
    """``f[P, D]``: the digits of ``u32[P]`` in the mixed base of the numbers of levels."""
    columns: dict[int, chex.Array] = {}
    _fill(columns, factors, indices)
    unit = jnp.stack([columns[i] for i in range(spaces.size(space))], axis=1)
    return spaces.canonical(space, unit)


def _fill(columns: dict[int, chex.Array], factors: list[_Factor], indices: chex.Array) -> None:
    """Adds the columns of some dimensions, where those of all levels exist."""
    for factor in reversed(factors):
        sizes = factor.sizes()
        digit = indices % jnp.uint32(sum(sizes))
        indices = indices // jnp.uint32(sum(sizes))
        starts = np.cumsum([0, *sizes[:-1]])
        level = digit
        if any(factor.below):
            level = jnp.searchsorted(jnp.asarray(starts, jnp.uint32), digit, side="right") - 1
        for i, (start, below) in enumerate(zip(starts.tolist(), factor.below, strict=True)):
            if below:
                _fill(columns, below, jnp.where(level == i, digit - jnp.uint32(start), 0))
        columns[factor.column] = jnp.asarray(factor.levels, jnp.result_type(float))[level]
