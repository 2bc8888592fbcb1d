"""Particle swarm optimisation."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, draws
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, StopReason, Strategy
from metahpo.lanes import when
from metahpo.space import Space
from metahpo.strategies import parts
from metahpo.strategies.genetic_algorithms import mutation
from metahpo.strategies.swarm.motion import (
    COEFFICIENTS,
    INFORMED,
    TOPOLOGIES,
    Coefficients,
    accelerate,
    check_stable,
    confine,
    informant,
    sphere_velocity,
)

SMALLEST_POPULATION = 2


class PSOState(NamedTuple):
    """The swarm: where it goes next and what it remembers."""

    unit: chex.Array  # f[P, D]: the next proposal
    velocity: chex.Array  # f[P, D]: the last move
    best_unit: chex.Array  # f[P, D]: every particle's best point
    best_loss: chex.Array  # f[P]
    links: chex.Array  # i32[K, P]: whom each particle informs; K = 0 but in a random topology


def pso(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    variant: str = "constriction",
    topology: str | None = None,
    inertia: chex.Numeric | None = None,
    cognitive: chex.Numeric | None = None,
    social: chex.Numeric | None = None,
) -> Strategy:
    """Particle swarm optimisation, in its canonical form or as the standard of 2011.

    Every particle moves on by ``inertia`` times its last move and is drawn to its own best point
    and to the best one that it is informed of.  ``"constriction"`` (Clerc & Kennedy 2002) and
    ``"inertia"`` (Shi & Eberhart 1998) draw each coordinate with weights of its own and differ in
    their coefficients; ``"spso2011"`` (Clerc 2012) draws the next point from a ball around the
    centre of gravity, so that it does not depend on the axes.

    All particles move at once, after the whole round is evaluated.  A particle that would leave the
    cube stops at the bound, and that coordinate's velocity is turned round and halved (Clerc 2012,
    "-0.5"), so that an optimum on a bound is reached.  Integers and choices: a swarm that has come
    to rest no longer leaves its cells, so each such coordinate is moved to another value in one
    particle a round, on average.  A particle that is informed of no finite loss is drawn anew.

    Args:
        space: the search space.
        population: particles, ``P``, at least 2.
        initial: first points: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``, ``K <= P``; may be traced.
        variant: ``"constriction"``: 0.7298, 1.4962, 1.4962; ``"inertia"``: 0.6, 1.7, 1.7 (Trelea
            2003); ``"spso2011"``: ``1 / (2 ln 2)``, ``1/2 + ln 2`` twice.
        topology: who informs whom: ``"global"`` everyone, ``"ring"`` the two neighbours,
            ``"random"`` every particle 3 random ones, drawn anew after each round that has not
            improved the best loss.  By default random for ``"spso2011"``, else global.
        inertia: ``w``, in [0, 1); may be traced, like the next two.
        cognitive: ``c1``, not negative: the pull of a particle's own best point.
        social: ``c2``, not negative: the pull of the best point that it is informed of.

    Returns:
        A Strategy; it says that it collapsed when the swarm rests at one point.

    Raises:
        ValueError: if ``population < 2``, ``variant`` or ``topology`` is unknown, ``initial`` does
            not fit, or the coefficients let the variance of a particle's position grow without
            bound while the best points stay (order-2 stability, Poli 2009).

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0, shape=(4,))}
        >>> problem = mh.problems.function(lambda h: (h["x"] ** 2).sum())
        >>> strategy = pso(space, population=20)
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, problem, space, strategy, rounds=50, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-3)
        True
    """
    population = parts.check_population("pso", population, SMALLEST_POPULATION)
    initial = parts.check_initial(space, population, initial)
    checks.one_of("variant", variant, COEFFICIENTS)
    balls = variant == "spso2011"
    topology = topology or ("random" if balls else "global")
    checks.one_of("topology", topology, TOPOLOGIES)
    given = Coefficients(inertia, cognitive, social)
    default = COEFFICIENTS[variant]
    use = Coefficients(*(d if g is None else g for g, d in zip(given, default, strict=True)))
    checks.numbers(**use._asdict())
    check_stable(use, balls)
    continuous = bool(spaces.is_continuous(space).all())
    stir = mutation.cells(space, 1.0 / population)
    informed = INFORMED if topology == "random" else 0

    def links(key: Key) -> chex.Array:
        return draws.integers(key, (informed, population), population)

    def init(key: Key) -> PSOState:
        start_key, velocity_key, link_key = jax.random.split(key, 3)
        unit = parts.starting_points(start_key, space, population, initial)
        # Towards a uniform point of the cube; half of the way in the canonical form.
        velocity = parts.uniform(velocity_key, space, population) - unit
        velocity = velocity if balls else velocity / 2
        loss = jnp.full(population, jnp.inf, unit.dtype)
        return PSOState(unit, velocity, unit, loss, links(link_key))

    def ask(key: Key, state: PSOState) -> tuple[Proposal, PSOState]:
        del key
        return parts.proposal(state.unit), state

    def tell(key: Key, state: PSOState, proposal: Proposal, evaluation: Evaluation) -> PSOState:
        move_key, link_key, stir_key, anew_key = jax.random.split(key, 4)
        x, loss = proposal.unit, parts.finite_loss(evaluation, proposal.unit)
        better = loss < state.best_loss
        best_unit = jnp.where(better[:, None], x, state.best_unit)
        best_loss = jnp.minimum(loss, state.best_loss)
        linked = state.links
        if informed:
            improved = best_loss.min() < state.best_loss.min()
            linked = jnp.where(improved, linked, links(link_key))
        leader = informant(topology, best_loss, linked)
        theirs, lost = best_unit[leader], jnp.isinf(best_loss[leader])
        # Nothing is known of a point that failed: no reason to return to it.
        own = jnp.where(jnp.isinf(best_loss)[:, None], theirs, best_unit)
        if balls:
            alone = leader == jnp.arange(population)
            velocity = sphere_velocity(move_key, use, x, state.velocity, own, theirs, alone)
        else:
            velocity = accelerate(move_key, use, x, state.velocity, own, theirs)
        unit, velocity = confine(x + velocity, velocity)
        unit = unit if continuous else stir(stir_key, unit)
        unit = when(lost.any(), scatter, unit, anew_key, lost)
        return PSOState(unit, velocity, best_unit, best_loss, linked)

    def stop(state: PSOState) -> chex.Array:
        width = state.best_unit.max(axis=0) - state.best_unit.min(axis=0)
        still = jnp.abs(state.velocity).max() + width.max() <= 4 * jnp.finfo(width.dtype).eps
        return jnp.where(still, StopReason.COLLAPSE, StopReason.RUNNING).astype(jnp.int32)

    return Strategy(init, ask, tell, parts.SCRATCH, stop if continuous else None, space=space)


def scatter(unit: chex.Array, key: Key, lost: chex.Array) -> chex.Array:
    """Draws the points of the particles that are ``lost``, ``bool[P]``, anew."""
    return jnp.where(lost[:, None], draws.uniform(key, unit.shape), unit)
