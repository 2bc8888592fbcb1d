"""Population based training."""

from collections.abc import Collection
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Choice, Space
from metahpo.strategies import parts

SMALLEST_POPULATION = 2  # a winner and a loser


class PBTState(NamedTuple):
    """What the next round proposes."""

    unit: chex.Array  # f[P, D]
    parent: chex.Array  # i32[P]


def pbt(
    space: Space,
    population: int,
    initial: chex.Array | None = None,
    *,
    truncation: float = 0.25,
    resample_probability: float = 0.25,
    perturbation: float = 0.1,
    frozen: Collection[str] = (),
) -> Strategy:
    """Population based training (Jaderberg et al. 2017, sections 3 and 4.1.1).

    The members train on from round to round.  After a round the worst quarter, and everyone whose
    loss is not finite, *exploits*: copies the training state and the hyperparameters of a random
    member of the best quarter.  It then *explores*: every coordinate by itself is drawn anew with
    probability ``resample_probability`` and else moved up or down.  The others go on unchanged.

    Losers of one winner never become clones of each other: the length of a move is random, uniform
    between half of ``perturbation`` and one and a half times as much, and a move beyond a bound is
    reflected.  One round is one interval between exploitations, so the run's ``steps`` are the
    paper's "ready" interval.

    Args:
        space: the search space.
        population: members, ``P``, at least 2.
        initial: ``f[K, D]`` with ``K <= P``, first members in the unit cube; may be traced.  The
            rest is uniform.
        truncation: the share of winners and of losers, in (0, 1/2]; at least one member each.
        resample_probability: in [0, 1], for every coordinate of a loser.
        perturbation: mean length of a move in the unit cube, in (0, 1/2]; on a logarithmic scale
            the value is thus multiplied.  A ``Choice`` changes only by being drawn anew.
        frozen: names of dimensions that a loser inherits as they are, for example of those that
            shape the training state.

    Returns:
        A Strategy.

    Raises:
        ValueError: if ``population < 2``, a probability or share is out of range, ``frozen`` has an
            unknown name, or ``initial`` has a wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"lr": mh.Float(1e-3, 1.0, log=True)}
        >>> strategy = pbt(space, population=8)
        >>> proposal, _ = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(1)))
        >>> proposal.parent.tolist()  # the first round trains from scratch
        [-1, -1, -1, -1, -1, -1, -1, -1]
    """
    parts.check_population("pbt", population, SMALLEST_POPULATION)
    parts.check_initial(space, population, initial)
    parts.check_probability("resample_probability", resample_probability)
    parts.check_share("truncation", truncation)
    parts.check_share("perturbation", perturbation)
    moves = ~parts.named(space, frozen)
    perturbed = moves & [not isinstance(d, Choice) for d in spaces.dimensions(space).values()]
    quota = max(1, int(truncation * population))

    def init(key: Key) -> PBTState:
        unit = parts.starting_points(key, space, population, initial)
        return PBTState(unit, jnp.full(population, -1, jnp.int32))

    def ask(key: Key, state: PBTState) -> tuple[Proposal, PBTState]:
        del key
        return parts.proposal(state.unit, state.parent), state

    def explore(key: Key, unit: chex.Array) -> chex.Array:
        draw_key, new_key, move_key = jax.random.split(key, 3)
        drawn = jax.random.bernoulli(draw_key, resample_probability, unit.shape)
        moved = jnp.where(perturbed, perturb(move_key, unit, perturbation), unit)
        new = jnp.where(drawn, parts.uniform(new_key, space, population), moved)
        return jnp.where(moves, new, unit)

    def tell(key: Key, state: PBTState, proposal: Proposal, evaluation: Evaluation) -> PBTState:
        del state
        exploit_key, explore_key, restart_key = jax.random.split(key, 3)
        loss = parts.finite_loss(evaluation, proposal.unit)
        source = exploit(exploit_key, loss, quota)
        loser = source != jnp.arange(population)
        unit = proposal.unit[source]
        unit = jnp.where(loser[:, None], explore(explore_key, unit), unit)
        # Nobody is worth copying when every loss is infinite: all start again.
        lost = jnp.isinf(loss).all()
        unit = jnp.where(lost, parts.uniform(restart_key, space, population), unit)
        return PBTState(unit, jnp.where(lost, -1, source))

    return Strategy(init, ask, tell)


def exploit(key: Key, loss: chex.Array, quota: int) -> chex.Array:
    """``i32[P]``: whom every member copies, itself unless it is a loser (truncation selection).

    Losers are the ``quota`` worst and all with infinite losses, winners the ``quota`` best with
    finite ones; a loser copies a winner drawn uniformly.
    """
    population = loss.shape[0]
    order = jnp.argsort(loss)
    rank = jnp.argsort(order)
    loser = (rank >= population - quota) | jnp.isinf(loss)
    winners = jnp.clip(jnp.isfinite(loss).sum(), 1, quota)
    drawn = jax.random.randint(key, (population,), 0, winners)
    return jnp.where(loser, order[drawn], jnp.arange(population)).astype(jnp.int32)


def perturb(key: Key, unit: chex.Array, length: float) -> chex.Array:
    """Moves every coordinate up or down by ``length`` times U(1/2, 3/2), reflected at bounds."""
    sign_key, length_key = jax.random.split(key)
    step = jax.random.uniform(length_key, unit.shape, unit.dtype, 0.5 * length, 1.5 * length)
    moved = jnp.abs(unit + step * jax.random.rademacher(sign_key, unit.shape, unit.dtype))
    return jnp.where(moved > 1.0, 2.0 - moved, moved)
