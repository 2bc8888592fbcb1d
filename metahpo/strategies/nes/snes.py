"""Separable natural evolution strategy."""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Space
from metahpo.strategies import margin, parts, redraw, search_distribution
from metahpo.strategies.nes.fitness_shaping import nes_utilities
from metahpo.strategies.search_distribution import Samples

SMALLEST_POPULATION = 2  # a better and a worse sample


class SNESState(NamedTuple):
    """The search distribution."""

    mean: chex.Array  # f[D]
    std: chex.Array  # f[D]
    given: chex.Array  # f[K, D], points to evaluate first
    first: chex.Array  # bool[]: whether nothing has been told yet


def snes(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    sigma: chex.Numeric = 0.2,
    mean_rate: chex.Numeric = 1.0,
    sigma_rate: chex.Numeric | None = None,
) -> Strategy:
    """Separable natural evolution strategy (Schaul, Glasmachers & Schmidhuber, GECCO 2011).

    Follows the natural gradient of the expected utility with respect to the mean and the standard
    deviations of a normal distribution with independent coordinates (Wierstra et al., JMLR 2014,
    algorithm 6).  Work and memory are linear in the dimension; it is the choice for many
    hyperparameters that do not depend much on each other.

    A sample outside the cube is evaluated where it is clipped to.  Integers and choices keep
    mutating: the margin of CMA-ES with Margin bounds the probability of leaving a value.

    Args:
        space: the search space.
        population: samples a round, ``P``, at least 2; the paper's default is
            ``4 + floor(3 log D)``.
        initial: evaluated first: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``, ``K <= P``; the mean starts at their mean, and at the centre of the cube
            without them.
        sigma: the first standard deviation of every coordinate, a length in the unit cube.
        mean_rate: learning rate of the mean.
        sigma_rate: learning rate of the standard deviations, by default
            ``(3 + log D) / (5 sqrt(D))``.

    Returns:
        A Strategy.  It stops with ``COLLAPSE`` once no float can change any more.

    Raises:
        ValueError: if ``population < 2``, ``sigma`` or a rate is not positive, or ``initial`` has a
            wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0, shape=(5,))}
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(lambda h: ((h["x"] - 0.3) ** 2).sum()),
        ...     space, snes(space, population=8), rounds=100, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-6)
        True
    """
    population = parts.check_population("snes", population, SMALLEST_POPULATION)
    initial = parts.check_initial(space, population, initial)
    size = spaces.size(space)
    if sigma_rate is None:
        sigma_rate = (3 + math.log(size)) / (5 * math.sqrt(size))  # table 1
    checks.positive(sigma=sigma, mean_rate=mean_rate, sigma_rate=sigma_rate)
    cells = margin.cells(spaces.thresholds(space))
    alpha = margin.default_alpha(population, size)
    choices = redraw.unordered(space)
    reason = search_distribution.collapse(space)

    def init(key: Key) -> SNESState:
        mean, given = search_distribution.start(key, space, population, initial)
        return SNESState(mean, jnp.full(size, sigma, mean.dtype), given, jnp.ones((), bool))

    def ask(key: Key, state: SNESState) -> tuple[Proposal, SNESState]:
        key, redraw_key = jax.random.split(key)
        z = jax.random.normal(key, (population, size), state.mean.dtype)
        z = search_distribution.inject(state.first, state.given, state.mean, state.std, z)
        sample = state.mean + state.std * z
        sample, redrawn = redraw.redraw(redraw_key, sample, choices, alpha)
        unit = search_distribution.evaluated(state.first, state.given, sample)
        return parts.proposal(unit, note=Samples(z, unit, redrawn)), state

    def tell(key: Key, state: SNESState, proposal: Proposal, evaluation: Evaluation) -> SNESState:
        del key
        redrawn = proposal.note.redrawn
        z = search_distribution.as_told(
            search_distribution.standardised, proposal.note, proposal.unit, state.mean, state.std
        )
        loss = parts.finite_loss(evaluation, z)
        utility = nes_utilities(loss, proposal.budget > 0)
        mean = state.mean + mean_rate * state.std * (utility @ z)
        growth = 0.5 * sigma_rate * (utility @ (z**2 - 1.0))
        std = state.std * jnp.exp(growth)
        mean = redraw.follow(mean, proposal.unit, choices, redrawn, loss)
        mean, factor = search_distribution.contain(cells, mean, std, alpha)
        return state._replace(mean=mean, std=std * factor, first=jnp.zeros((), bool))

    stop = None if reason is None else lambda state: reason(state.std)
    return Strategy(init, ask, tell, parts.SCRATCH, stop, space=space)
