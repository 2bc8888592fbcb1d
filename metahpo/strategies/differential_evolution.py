"""Differential evolution."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Space
from metahpo.strategies import parts

VARIANTS = ("rand/1/bin", "best/1/bin", "current-to-best/1/bin")
# The defaults are the only ones measured to be good on both scales.  Dithered weights of at least
# 1/2 keep a population from collapsing: with F = 0.5 fixed, best/1 and current-to-best/1 win more
# duels of 32 evaluations against random search (0.68 of them, the defaults 0.65, rand/1 0.48) but
# stall far from the optimum of a 10-D sphere, which the defaults always reach to 1e-8.
SMALLEST_POPULATION = 4  # a target and three others


class DEState(NamedTuple):
    """The population and its losses, ``inf`` before the first round is told."""

    unit: chex.Array  # f[P, D]
    loss: chex.Array  # f[P]
    started: chex.Array  # bool[]: whether the initial population has been proposed


def differential_evolution(
    space: Space,
    population: int,
    initial: chex.Array | None = None,
    *,
    variant: str = "current-to-best/1/bin",
    weight: float | tuple[float, float] = (0.5, 1.0),
    crossover_rate: float = 0.9,
) -> Strategy:
    """Differential evolution with binomial crossover (Storn & Price 1997).

    The first round evaluates the initial population.  Every later round proposes one trial for
    every member; a trial replaces its member if it is not worse.

    A coordinate that leaves the unit interval bounces back: it is drawn uniformly between the
    bound and the base point's coordinate (Price, Storn & Lampinen 2005, section 4.3.1).  That
    keeps the trial near the base without piling trials up on the bound, and can still come
    arbitrarily close to an optimum on it.

    Args:
        space: the search space.
        population: members, ``P``, at least 4.
        initial: ``f[K, D]`` with ``K <= P``, first members in the unit cube (a warm start); may be
            traced.  The rest is uniform.
        variant: what the scaled difference of two random members is added to: ``"rand/1/bin"`` a
            random member, ``"best/1/bin"`` the best one, ``"current-to-best/1/bin"`` the target,
            moved towards the best by the same weight (at most 1).  All random members differ from
            each other and from the target.
        weight: the scale ``F > 0`` of the difference, or a range from which every trial draws its
            own (dither).
        crossover_rate: the probability ``CR`` in [0, 1] that a coordinate is taken from the mutant
            rather than from the target; one random coordinate always is.

    Returns:
        A Strategy.

    Raises:
        ValueError: if ``population < 4``, ``variant`` is unknown, ``weight`` or ``crossover_rate``
            is out of range, or ``initial`` has a wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0)}
        >>> strategy = differential_evolution(space, population=8)
        >>> result = mh.search(
        ...     jax.random.key(0), mh.problems.function(lambda h: h["x"] ** 2), space,
        ...     strategy, rounds=10, steps=1,
        ... )
        >>> bool(result.best_loss < 1e-3)
        True
    """
    parts.check_population("differential evolution", population, SMALLEST_POPULATION)
    parts.check_initial(space, population, initial)
    parts.check_probability("crossover_rate", crossover_rate)
    lowest, highest = weight if isinstance(weight, tuple) else (weight, weight)
    if not 0 < lowest <= highest:
        raise ValueError(f"weight must be positive, or a range of positive ones, got {weight}")
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {VARIANTS}, got {variant!r}")
    size = spaces.size(space)

    def init(key: Key) -> DEState:
        unit = parts.starting_points(key, space, population, initial)
        return DEState(unit, jnp.full(population, jnp.inf, unit.dtype), jnp.zeros((), bool))

    def trials(key: Key, state: DEState) -> chex.Array:
        parent_key, weight_key, bounce_key, cross_key = jax.random.split(key, 4)
        x = state.unit
        r1, r2, r3 = x[distinct_others(parent_key, population, 3)]
        best = x[jnp.argmin(state.loss)]
        f = jax.random.uniform(weight_key, (population, 1), x.dtype, lowest, highest)
        if variant == "rand/1/bin":
            base = r1
        elif variant == "best/1/bin":
            base = jnp.broadcast_to(best, x.shape)
        else:
            base = x + jnp.minimum(f, 1.0) * (best - x)
        mutant = bounce_back(bounce_key, base, base + f * (r2 - r3))
        return jnp.where(crossover_mask(cross_key, population, size, crossover_rate), mutant, x)

    def ask(key: Key, state: DEState) -> tuple[Proposal, DEState]:
        unit = jnp.where(state.started, trials(key, state), state.unit)
        return parts.proposal(unit), state._replace(started=jnp.ones((), bool))

    def tell(key: Key, state: DEState, proposal: Proposal, evaluation: Evaluation) -> DEState:
        del key
        loss = parts.finite_loss(evaluation, state.loss)
        # "Not worse" lets the population drift on a plateau, also on one of infinite losses; the
        # first round is accepted whole because the losses before it are infinite.
        accept = loss <= state.loss
        unit = jnp.where(accept[:, None], proposal.unit, state.unit)
        return state._replace(unit=unit, loss=jnp.where(accept, loss, state.loss))

    return Strategy(init, ask, tell)


def distinct_others(key: Key, population: int, count: int) -> chex.Array:
    """``i32[count, P]``: for every member, ``count`` others, different from it and each other.

    Uniform over all ordered choices: the j-th is drawn from ``P - 1 - j`` numbers and then moved
    past those that are taken, the smallest first.
    """
    choices = population - 1 - jnp.arange(count)[:, None]
    drawn = jax.random.randint(key, (count, population), 0, choices)
    taken = jnp.arange(population)[None]
    for index in drawn:
        for other in jnp.sort(taken, axis=0):
            index = index + (index >= other)
        taken = jnp.concatenate([taken, index[None]])
    return taken[1:]


def bounce_back(key: Key, base: chex.Array, point: chex.Array) -> chex.Array:
    """``point`` with each coordinate outside [0, 1] drawn between ``base`` and that bound."""
    bound = jnp.clip(point, 0.0, 1.0)
    share = jax.random.uniform(key, point.shape, point.dtype)
    return jnp.clip(jnp.where(point == bound, point, base + share * (bound - base)), 0.0, 1.0)


def crossover_mask(key: Key, population: int, size: int, rate: float) -> chex.Array:
    """``bool[P, D]``: which coordinates come from the mutant; at least one of every member."""
    rate_key, sure_key = jax.random.split(key)
    sure = jax.random.randint(sure_key, (population, 1), 0, size)
    return jax.random.bernoulli(rate_key, rate, (population, size)) | (jnp.arange(size) == sure)
