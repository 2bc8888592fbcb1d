"""Differential evolution."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Space
from metahpo.strategies import parts, redraw
from metahpo.strategies.de import trials

VARIANTS = ("rand/1/bin", "best/1/bin", "current-to-best/1/bin", "current-to-pbest/1/bin")
# The defaults are the only ones measured to be good on both scales.  Dithered weights of at least
# 1/2 keep a population from collapsing: with F = 0.5 fixed, best/1 and current-to-best/1 win more
# duels of 32 evaluations against random search (0.68 of them, the defaults 0.65, rand/1 0.48) but
# stall far from the optimum of a 10-D sphere, which the defaults always reach to 1e-8.


class DEState(NamedTuple):
    """The population and its losses, ``inf`` before the first round is told."""

    unit: chex.Array  # f[P, D]
    loss: chex.Array  # f[P]
    started: chex.Array  # bool[]: whether the initial population has been proposed


def differential_evolution(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    variant: str = "current-to-best/1/bin",
    weight: chex.Numeric | tuple[chex.Numeric, chex.Numeric] = (0.5, 1.0),
    crossover_rate: chex.Numeric = 0.9,
    best_share: float = 0.1,
) -> Strategy:
    """Differential evolution with binomial crossover (Storn & Price 1997).

    The first round evaluates the initial population.  Every later round proposes one trial for
    every member; a trial replaces its member if it is not worse.  While all losses are the same,
    only a better one is accepted.

    A coordinate that leaves the unit interval bounces back: it is drawn uniformly between the
    bound and the base point's coordinate (Price, Storn & Lampinen 2005, section 4.3.1).  That
    keeps the trial near the base without piling trials up on the bound, and can still come
    arbitrarily close to an optimum on it.

    About four times a round an integer or a choice of a trial is drawn anew, because a value that
    all members have lost cannot come back from their differences.

    Args:
        space: the search space.
        population: members, ``P``, at least 4.
        initial: first members (a warm start): hyperparameters, a list of them, or points of the
            unit cube ``f[K, D]``, ``K <= P``; the rest is uniform.  May be traced.
        variant: what the scaled difference of two random members is added to: ``"rand/1/bin"`` a
            random member, ``"best/1/bin"`` the best one, ``"current-to-best/1/bin"`` the target,
            moved towards the best by the same weight (at most 1), ``"current-to-pbest/1/bin"``
            the target, moved towards a random one of the best (Zhang & Sanderson 2009).  All random
            members of the difference differ from each other and from the target.
        weight: the scale ``F > 0`` of the difference, or a range from which every trial draws its
            own (dither); may be traced.
        crossover_rate: the probability ``CR`` in [0, 1] that a coordinate is taken from the mutant
            rather than from the target; one random coordinate always is.  May be traced.
        best_share: the share in (0, 1] of the population that counts as best in the last variant,
            at least two members.

    Returns:
        A Strategy.  Its ``stop`` says ``COLLAPSE`` when all members are equal.

    Raises:
        ValueError: if ``population < 4``, ``variant`` is unknown, ``weight``, ``crossover_rate`` or
            ``best_share`` is out of range, or ``initial`` has a wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0)}
        >>> strategy = differential_evolution(space, population=8)
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(lambda h: h["x"] ** 2), space,
        ...     strategy, rounds=10, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-3)
        True
    """
    population = parts.check_population(
        "differential evolution", population, trials.SMALLEST_POPULATION
    )
    initial = parts.check_initial(space, population, initial)
    checks.probability("crossover_rate", crossover_rate)
    checks.share("best_share", best_share)
    lowest, highest = weight if isinstance(weight, tuple) else (weight, weight)
    if checks.known(lowest, highest) and not 0 < lowest <= highest:
        raise ValueError(f"weight must be positive, or a range of positive ones, got {weight}")
    checks.one_of("variant", variant, VARIANTS)
    size = spaces.size(space)
    best_count = trials.best_count(best_share, population)
    columns = redraw.discrete(space)

    def init(key: Key) -> DEState:
        unit = parts.starting_points(key, space, population, initial)
        return DEState(unit, jnp.full(population, jnp.inf, unit.dtype), jnp.zeros((), bool))

    def base_point(draw: chex.Array, state: DEState, r3: chex.Array, f: chex.Array) -> chex.Array:
        x = state.unit
        if variant == "rand/1/bin":
            return x[r3]
        if variant == "current-to-pbest/1/bin":
            best = x[trials.best_others(draw, state.loss, best_count)]
        else:
            best = x[jnp.argmin(state.loss)]
        if variant == "best/1/bin":
            return jnp.broadcast_to(best, x.shape)
        return x + jnp.minimum(f, 1.0) * (best - x)

    def tried(key: Key, state: DEState) -> chex.Array:
        key, redraw_key = redraw.keys(key, columns)
        draw, coarse = trials.random_draws(key, 6, population, size)
        x = state.unit
        r1, r2, r3 = trials.distinct_others(draw[:3], [population] * 3)
        f = (lowest + draw[3] * (highest - lowest))[:, None]
        base = base_point(draw[4], state, r3, f)
        share = trials.left_over(coarse, crossover_rate)
        mutant = trials.bounce_back(share, base, base + f * (x[r1] - x[r2]))
        sure = trials.index(draw[5], size)
        trial = jnp.where(trials.crossover(coarse, sure, crossover_rate), mutant, x)
        return parts.inherited(space, redraw.mutated(redraw_key, trial, columns), x)

    def ask(key: Key, state: DEState) -> tuple[Proposal, DEState]:
        unit = jnp.where(state.started, tried(key, state), state.unit)
        return parts.proposal(unit), state._replace(started=jnp.ones((), bool))

    def tell(key: Key, state: DEState, proposal: Proposal, evaluation: Evaluation) -> DEState:
        del key
        loss = parts.finite_loss(evaluation, state.loss)
        # The first round's points are the population already.
        accept = trials.not_worse(loss, state.loss) & parts.told(proposal, evaluation)
        unit = jnp.where(accept[:, None], proposal.unit, state.unit)
        return state._replace(unit=unit, loss=jnp.where(accept, loss, state.loss))

    def stop(state: DEState) -> chex.Array:
        return trials.collapsed(state.unit, space=space)

    return Strategy(init, ask, tell, parts.SCRATCH._replace(order=False), stop, space=space)
