"""OpenAI's evolution strategy."""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, PyTree, Strategy
from metahpo.space import Space
from metahpo.strategies import margin, parts, redraw, search_distribution
from metahpo.strategies.nes.fitness_shaping import centred_ranks
from metahpo.strategies.search_distribution import Samples

SMALLEST_POPULATION = 2  # one antithetic pair


class OpenESState(NamedTuple):
    """The search distribution and the optimiser of its mean."""

    mean: chex.Array  # f[D]
    std: chex.Array  # f[D], sigma but for the margin of integers and choices
    optimizer: PyTree
    given: chex.Array  # f[K, D], points to evaluate first
    first: chex.Array  # bool[]: whether nothing has been told yet


def open_es(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: chex.Numeric = 0.05,
    sigma: chex.Numeric = 0.1,
    decay: chex.Numeric = 0.99,
    smallest_sigma: chex.Numeric = 1e-4,
    weight_decay: chex.Numeric = 0.0,
) -> Strategy:
    """OpenAI's evolution strategy (Salimans, Ho, Chen, Sidor & Sutskever, arXiv 1703.03864).

    Estimates the gradient of the loss, smoothed by a normal distribution of independent
    coordinates, from antithetic pairs and centred ranks, and hands it to an optimiser.  Nothing is
    learned of the function's shape: it is made for large populations and many dimensions.

    The paper keeps sigma; then the samples stay about ``sigma`` away from an optimum.  Here it
    decays, and with it the default optimiser's learning rate; ``decay=1.0`` is the paper.

    A sample outside the cube is evaluated where it is clipped to.  Integers and choices keep
    mutating: the margin of CMA-ES with Margin bounds the probability of leaving a value.

    Args:
        space: the search space.
        population: samples a round, ``P``, even: slot ``i + P / 2`` mirrors slot ``i``.
        initial: evaluated first: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``, ``K <= P``; the mean starts at their mean, and at the centre of the cube
            without them.
        optimizer: any optax optimiser of the mean, in the unit cube; by default Adam.
        learning_rate: of the default optimiser in the first round.
        sigma: the first standard deviation of every coordinate, a length in the unit cube.
        decay: by what sigma and the default learning rate are multiplied after each round.
        smallest_sigma: where the decay ends; the learning rate ends at the same share of its own.
        weight_decay: of the mean towards the centre of the cube, added to the gradient.

    Returns:
        A Strategy.

    Raises:
        ValueError: if ``population`` is odd or below 2, ``sigma``, ``decay``, ``smallest_sigma`` or
            ``learning_rate`` is not positive, ``decay`` is above 1, ``weight_decay`` is negative,
            or ``initial`` has a wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0, shape=(5,))}
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(lambda h: ((h["x"] - 0.3) ** 2).sum()),
        ...     space, open_es(space, population=8), rounds=200, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-2)
        True
    """
    population = parts.check_population("open_es", population, SMALLEST_POPULATION)
    if population % 2:
        raise ValueError(
            f"open_es samples antithetic pairs, so its population must be even, got {population}"
        )
    initial = parts.check_initial(space, population, initial)
    checks.positive(
        sigma=sigma, decay=decay, learning_rate=learning_rate, smallest_sigma=smallest_sigma
    )
    _check_decays(decay, weight_decay)
    size, pairs = spaces.size(space), population // 2
    if optimizer is None:
        optimizer = optax.adam(
            lambda t: (
                learning_rate * jnp.maximum(decay**t, jnp.minimum(1.0, smallest_sigma / sigma))
            )
        )
    cells = margin.cells(spaces.thresholds(space))
    alpha = margin.default_alpha(population, size)
    choices = redraw.unordered(space)

    def init(key: Key) -> OpenESState:
        mean, given = search_distribution.start(key, space, population, initial)
        std = jnp.full(size, sigma, mean.dtype)
        return OpenESState(mean, std, optimizer.init(mean), given, jnp.ones((), bool))

    def ask(key: Key, state: OpenESState) -> tuple[Proposal, OpenESState]:
        first, given, mean, std = state.first, state.given, state.mean, state.std
        key, redraw_key = jax.random.split(key)
        z = jax.random.normal(key, (pairs, size), mean.dtype)
        z = search_distribution.inject(first, given[:pairs], mean, std, z)
        z = jnp.concatenate([z, -z])
        if given.shape[0] > pairs:
            z = search_distribution.inject(first, given, mean, std, z)
        sample, redrawn = redraw.redraw(redraw_key, mean + std * z, choices, alpha)
        unit = search_distribution.evaluated(first, given, sample)
        return parts.proposal(unit, note=Samples(z, unit, redrawn)), state

    def tell(
        key: Key, state: OpenESState, proposal: Proposal, evaluation: Evaluation
    ) -> OpenESState:
        del key
        redrawn = proposal.note.redrawn
        z = search_distribution.as_told(
            search_distribution.standardised, proposal.note, proposal.unit, state.mean, state.std
        )
        loss = parts.finite_loss(evaluation, z)
        weight = centred_ranks(loss, proposal.budget > 0)
        # Algorithm 1: the ascent direction is sum(F_i z_i) / (n sigma).
        gradient = -(weight @ z) / (population * state.std)
        gradient += weight_decay * (state.mean - 0.5)
        updates, memory = optimizer.update(gradient, state.optimizer, state.mean)
        mean = optax.apply_updates(state.mean, updates)
        std = jnp.maximum(state.std * decay, jnp.minimum(state.std, smallest_sigma))
        mean = redraw.follow(mean, proposal.unit, choices, redrawn, loss)
        mean, factor = search_distribution.contain(cells, mean, std, alpha)
        return state._replace(
            mean=mean, std=std * factor, optimizer=memory, first=jnp.zeros((), bool)
        )

    return Strategy(init, ask, tell, parts.SCRATCH, space=space)


def _check_decays(decay: chex.Numeric, weight_decay: chex.Numeric) -> None:
    if checks.known(decay) and decay > 1:
        raise ValueError(f"decay must be at most 1, got {decay}")
    if checks.known(weight_decay) and not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be finite and not negative, got {weight_decay}")
