"""Exponential natural evolution strategy."""

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
# A step of the covariance factor is no longer than this in the Frobenius norm, that is, no
# direction is scaled by more than exp(LONGEST_STEP) in one generation.
LONGEST_STEP = 4.0
HALVINGS = 3  # then LONGEST_STEP / 2**HALVINGS = 1/2, and 1/2**13 / 13! < 2e-14


class XNESState(NamedTuple):
    """The search distribution ``mean + factor @ z``."""

    mean: chex.Array  # f[D]
    factor: chex.Array  # f[D, D]; factor @ factor.T is the covariance
    given: chex.Array  # f[K, D], points to evaluate first
    first: chex.Array  # bool[]: whether nothing has been told yet


def xnes(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    sigma: chex.Numeric = 0.2,
    mean_rate: chex.Numeric = 1.0,
    sigma_rate: chex.Numeric | None = None,
    shape_rate: chex.Numeric | None = None,
) -> Strategy:
    """Exponential natural evolution strategy (Glasmachers et al., GECCO 2010).

    Follows the natural gradient of the expected utility with respect to the mean and the full
    covariance of a normal distribution, in exponential coordinates (Wierstra et al., JMLR 2014,
    algorithm 5).  Invariant under rotations of the cube's coordinates; a generation costs some
    ten products of ``D x D`` matrices and no decomposition.

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
        sigma_rate: learning rate of the step size, by default ``3 (3 + log D) / (5 D sqrt(D))``.
        shape_rate: learning rate of the covariance's shape, by default the same.

    Returns:
        A Strategy.  It stops with ``COLLAPSE`` once no float can change any more.

    Raises:
        ValueError: if ``population < 2``, ``sigma`` or a rate is not positive, or ``initial`` has a
            wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(-1.0, 1.0)}
        >>> tilted = lambda h: (h["x"] + h["y"]) ** 2 + 1e-3 * (h["x"] - h["y"] - 0.4) ** 2
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(tilted), space,
        ...     xnes(space, population=8), rounds=100, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-6)
        True
    """
    population = parts.check_population("xnes", population, SMALLEST_POPULATION)
    initial = parts.check_initial(space, population, initial)
    size = spaces.size(space)
    default = 3 * (3 + math.log(size)) / (5 * size * math.sqrt(size))  # table 1
    sigma_rate = default if sigma_rate is None else sigma_rate
    shape_rate = default if shape_rate is None else shape_rate
    checks.positive(sigma=sigma, mean_rate=mean_rate, sigma_rate=sigma_rate, shape_rate=shape_rate)
    cells = margin.cells(spaces.thresholds(space))
    alpha = margin.default_alpha(population, size)
    choices = redraw.unordered(space)
    reason = search_distribution.collapse(space)

    def init(key: Key) -> XNESState:
        mean, given = search_distribution.start(key, space, population, initial)
        factor = jnp.asarray(sigma, mean.dtype) * jnp.eye(size, dtype=mean.dtype)
        return XNESState(mean, factor, given, jnp.ones((), bool))

    def ask(key: Key, state: XNESState) -> tuple[Proposal, XNESState]:
        key, redraw_key = jax.random.split(key)
        z = jax.random.normal(key, (population, size), state.mean.dtype)
        std = jnp.diagonal(state.factor)  # only read in the first round, when there is no more
        z = search_distribution.inject(state.first, state.given, state.mean, std, z)
        sample = state.mean + z @ state.factor.T
        sample, redrawn = redraw.redraw(redraw_key, sample, choices, alpha)
        unit = search_distribution.evaluated(state.first, state.given, sample)
        return parts.proposal(unit, note=Samples(z, unit, redrawn)), state

    def tell(key: Key, state: XNESState, proposal: Proposal, evaluation: Evaluation) -> XNESState:
        del key
        redrawn = proposal.note.redrawn
        z = search_distribution.as_told(
            standardised, proposal.note, proposal.unit, state.mean, state.factor
        )
        loss = parts.finite_loss(evaluation, z)
        utility = nes_utilities(loss, proposal.budget > 0)
        mean, factor = natural_step(
            state.mean, state.factor, z, utility, (mean_rate, sigma_rate, shape_rate)
        )
        mean = redraw.follow(mean, proposal.unit, choices, redrawn, loss)
        mean, scale = search_distribution.contain(cells, mean, deviations(factor), alpha)
        factor = scale[:, None] * factor
        return state._replace(mean=mean, factor=factor, first=jnp.zeros((), bool))

    stop = None if reason is None else lambda state: reason(deviations(state.factor))
    return Strategy(init, ask, tell, parts.SCRATCH, stop, space=space)


def standardised(unit: chex.Array, mean: chex.Array, factor: chex.Array) -> chex.Array:
    """``f[P, D]``, the points as the ``z`` that would draw them."""
    return jnp.linalg.solve(factor, (unit - mean).T).T


def deviations(factor: chex.Array) -> chex.Array:
    """``f[D]``, the marginal standard deviations of the covariance ``factor @ factor.T``."""
    return jnp.sqrt((factor**2).sum(1))


def natural_step(
    mean: chex.Array,
    factor: chex.Array,
    z: chex.Array,
    utility: chex.Array,
    rates: tuple[chex.Numeric, chex.Numeric, chex.Numeric],
) -> tuple[chex.Array, chex.Array]:
    """One step along the natural gradient in exponential coordinates (Wierstra 2014, algorithm 5).

    The paper's ``sigma B`` is one matrix here, because their updates commute.

    Args:
        mean: ``f[D]``.
        factor: ``f[D, D]``.
        z: ``f[P, D]``, the samples were ``mean + factor @ z``.
        utility: ``f[P]``, summing to zero.
        rates: learning rates of the mean, the step size and the shape.

    Returns:
        The new mean and factor.
    """
    mean_rate, sigma_rate, shape_rate = rates
    size = mean.shape[0]
    gradient = (z * utility[:, None]).T @ z  # of z z^T - I; the utilities sum to zero
    trace = jnp.trace(gradient) / size
    step = 0.5 * shape_rate * gradient
    step += 0.5 * (sigma_rate - shape_rate) * trace * jnp.eye(size, dtype=mean.dtype)
    norm = jnp.sqrt((step**2).sum())
    step = step * jnp.minimum(1.0, LONGEST_STEP / jnp.maximum(norm, LONGEST_STEP))
    return mean + mean_rate * (factor @ (utility @ z)), factor @ exponential(step)


def exponential(matrix: chex.Array) -> chex.Array:
    """The exponential of a matrix of norm up to ``LONGEST_STEP``, to rounding in float64.

    Taylor's series to degree 12 by Paterson & Stockmeyer (1973) after ``HALVINGS``, then squared as
    often: eight products of matrices, which batch under ``vmap`` as decompositions do not.
    """
    a = matrix / 2**HALVINGS
    one = jnp.eye(a.shape[0], dtype=a.dtype)
    squared = a @ a
    cubed = squared @ a
    coefficient = [1 / math.factorial(k) for k in range(13)]
    total = coefficient[12] * one
    for k in (9, 6, 3, 0):
        total = total @ cubed if k < 9 else total * cubed
        total += coefficient[k] * one + coefficient[k + 1] * a + coefficient[k + 2] * squared
    for _ in range(HALVINGS):
        total = total @ total
    return total
