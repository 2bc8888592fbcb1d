"""A complete strategy to start from: a (1+1) search that steps from its best point.

Copy it to metahpo/strategies/<name>.py and replace what the comments point at.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, cube
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Space
from metahpo.strategies import parts


# What the next call needs and nothing else: arrays, so that it can be scanned, vmapped and saved.
class HillClimbingState(NamedTuple):
    """The best point of every climber so far and its loss, ``inf`` before the first round."""

    unit: chex.Array  # f[P, D]
    loss: chex.Array  # f[P]


# The space and the population come first; everything else has a default that was measured.
def hill_climbing(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    length: float = 0.1,
) -> Strategy:
    """Independent climbers that keep a Gaussian step when it is not worse (Matyas 1965).

    Args:
        space: the search space.
        population: number of climbers, ``P``.
        initial: first climbers: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``, ``K <= P``; the rest is uniform.  May be traced.
        length: standard deviation of a step in the unit cube, in (0, 1/2].

    Returns:
        A Strategy.

    Raises:
        ValueError: if ``population`` is not a whole number of at least 1, ``length`` is out of
            range, or ``initial`` has a wrong shape.
    """
    # Static mistakes are refused here, with the rule and the value.
    population = parts.check_population("hill climbing", population)
    spaces.size(space)  # refuses what is not a space
    initial = parts.check_initial(space, population, initial)
    checks.share("length", length, most=0.5)

    def init(key: Key) -> HillClimbingState:
        unit = parts.starting_points(key, space, population, initial)
        return HillClimbingState(unit, jnp.full(population, jnp.inf, unit.dtype))

    def ask(key: Key, state: HillClimbingState) -> tuple[Proposal, HillClimbingState]:
        step = length * jax.random.normal(key, state.unit.shape, state.unit.dtype)
        # Losses that are all infinite: nothing was told yet, or nothing was worth keeping.
        stay = jnp.isinf(state.loss)[:, None]
        # Say how a strategy keeps its bounds: here steps are reflected.
        # parts.proposal trains from scratch with the full budget; give parents to train on.
        return parts.proposal(jnp.where(stay, state.unit, cube.reflected(state.unit + step))), state

    def tell(
        key: Key, state: HillClimbingState, proposal: Proposal, evaluation: Evaluation
    ) -> HillClimbingState:
        # A failed training is data: an infinite loss, which any finite one replaces.
        loss = parts.finite_loss(evaluation, state.loss)
        better = loss <= state.loss
        unit = jnp.where(better[:, None], proposal.unit, state.unit)
        # A climber that has seen no finite loss yet starts again elsewhere.
        lost = jnp.isinf(jnp.minimum(loss, state.loss))[:, None]
        unit = jnp.where(lost, parts.uniform(key, space, population), unit)
        return HillClimbingState(unit, jnp.minimum(loss, state.loss))

    # Every climber always trains from scratch.  Needs(gradients=True) would ask the run for
    # evaluation.grad, f[P, D] on the unit cube.
    return Strategy(init, ask, tell, parts.SCRATCH)
