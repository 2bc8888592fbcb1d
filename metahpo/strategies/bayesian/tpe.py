"""Tree-structured Parzen estimators."""

import math
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, quasirandom
from metahpo import space as spaces
from metahpo.base import FULL_BUDGET, Evaluation, Key, Proposal, StopReason, Strategy
from metahpo.space import Space
from metahpo.strategies import parts
from metahpo.surrogates import parzen

MOST_GOOD = 25  # evaluations
GOOD_SHARE = 0.1


class TPEState(NamedTuple):
    """What was asked and told, the oldest first, in ``N`` slots, and the points that come first."""

    unit: chex.Array  # f[N, D]
    loss: chex.Array  # f[N]: inf where it failed, or is not told yet
    told: chex.Array  # bool[N]
    pending: chex.Array  # bool[N]
    asked: chex.Array  # i32[]: slots in use
    first: chex.Array  # f[P, D]
    sequence: quasirandom.Sobol | None


def tpe(
    space: Space,
    population: int = 1,
    initial: parts.Initial | None = None,
    *,
    capacity: int = 256,
    startup: int = 10,
    first: Literal["random", "sobol"] = "random",
    candidates: int = 24,
) -> Strategy:
    """Tree-structured Parzen estimators (Bergstra et al. 2011), as Optuna 5 has them.

    One density ``l`` is fitted to the best tenth of the evaluations, at most 25, and another,
    ``g``, to the rest.  Of some points drawn from ``l`` the one of the highest ``l / g`` is
    proposed.  Both are over all dimensions together (multivariate, Falkner et al. 2018).  Within a
    round, and where tells come late, what is asked and not yet told counts among the rest, so that
    no two members try the same (the constant liar).

    Both are over the dimensions that a point has: those of a branch of a ``OneOf`` are fitted to
    the evaluations in which it was chosen.

    A failed evaluation counts among the rest.  Points stay in the cube because kernels are
    truncated there.

    Args:
        space: the search space.
        population: points a round, ``P``; with 1 every point learns from all before.
        initial: first points: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``, ``K <= P``.  May be traced.
        capacity: the evaluations that a run will make, at least ``P``: each is remembered, and a
            run of known length that makes more is refused.  Once they are spent all slots are
            idle.  A point costs as much time as there is capacity.
        startup: evaluations that must be told before the first density is fitted, at least 1.
        first: where points come from until then: ``"random"`` or ``"sobol"``.
        candidates: points drawn from ``l`` for each that is proposed.

    Returns:
        A Strategy.  Its ``stop`` says ``BUDGET`` when ``capacity`` evaluations were asked for.

    Raises:
        ValueError: if ``population``, ``startup`` or ``candidates`` is not a whole number of at
            least 1, ``capacity`` is below ``population``, ``first`` is unknown, or ``initial`` has
            a wrong shape.

    Source:
        Watanabe, "Tree-structured Parzen estimator: understanding its algorithm components and
        their roles for better empirical performance", arXiv:2304.11127 (2023).

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0), "kind": mh.Choice(("a", "b"))}
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2 + h["kind"])
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, problem, space, tpe(space, population=1, capacity=60), rounds=60, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-2)
        True
    """
    population = parts.check_population("tpe", population)
    initial = parts.check_initial(space, population, initial)
    capacity = checks.whole("capacity", capacity, at_least=population)
    startup, candidates = checks.counts(startup=startup, candidates=candidates)
    checks.one_of("first", first, ("random", "sobol"))
    dims = list(spaces.dimensions(space).values())
    size = len(dims)
    published = quasirandom.directions(size) if first == "sobol" else None
    counts = [good_count(n) for n in range(capacity + 1)]
    room = min(MOST_GOOD, capacity)
    conditional = spaces.is_conditional(space)

    def has(unit: chex.Array) -> chex.Array | None:
        return spaces.active(space, unit) if conditional else None

    def init(key: Key) -> TPEState:
        first_key, sequence_key = jax.random.split(key)
        sequence = None if published is None else quasirandom.scrambled(sequence_key, published)
        unit = starting(first_key, sequence, jnp.zeros((), jnp.int32))
        if initial is not None:
            given = parts.starting_points(first_key, space, population, initial)
            unit = unit.at[: len(initial)].set(given[: len(initial)])
        return TPEState(
            jnp.zeros((capacity, size), unit.dtype),
            jnp.full(capacity, jnp.inf, unit.dtype),
            jnp.zeros(capacity, bool),
            jnp.zeros(capacity, bool),
            jnp.zeros((), jnp.int32),
            unit,
            sequence,
        )

    def starting(key: Key, sequence: quasirandom.Sobol | None, asked: chex.Array) -> chex.Array:
        if sequence is None:
            return parts.uniform(key, space, population)
        return quasirandom.as_fractions(quasirandom.points(sequence, asked, population))

    def ask(key: Key, state: TPEState) -> tuple[Proposal, TPEState]:
        start_key, key = jax.random.split(key)
        start = starting(start_key, state.sequence, state.asked)
        start = jnp.where(state.asked > 0, start, state.first)
        told = state.told.sum()
        # The earlier one of two equal losses is better, as the sort is stable.
        rank = jnp.argsort(jnp.argsort(state.loss))
        good = (rank < jnp.array(counts)[told]) & jnp.isfinite(state.loss)
        best = jnp.argsort(~good)[:room]
        low = parzen.fitted(dims, state.unit[best], good[best], has(state.unit[best]))
        slots = state.asked + jnp.arange(population, dtype=jnp.int32)

        def propose(carry: tuple, each: tuple) -> tuple[tuple, chex.Array]:
            unit, pending = carry
            key, slot, start = each
            rest = (state.told | pending) & ~good
            high = parzen.fitted(dims, unit, rest, has(unit))
            points = parzen.drawn(key, dims, low, candidates)
            score, other = (parzen.log_density(dims, k, points, has(points)) for k in (low, high))
            score -= other
            point = jnp.where(told < startup, start, points[jnp.argmax(score)])
            unit = unit.at[slot].set(point, mode="drop")
            return (unit, pending.at[slot].set(True, mode="drop")), point

        each = (jax.random.split(key, population), slots, start)
        (unit, pending), points = jax.lax.scan(propose, (state.unit, state.pending), each)
        budget = jnp.where(slots < capacity, FULL_BUDGET, 0).astype(jnp.int32)
        proposal = parts.proposal(points, note=slots)._replace(budget=budget)
        asked = jnp.minimum(state.asked + population, capacity)
        return proposal, state._replace(unit=unit, pending=pending, asked=asked)

    def tell(key: Key, state: TPEState, proposal: Proposal, evaluation: Evaluation) -> TPEState:
        del key
        loss = parts.finite_loss(evaluation, state.loss)
        new = parts.told(proposal, evaluation)
        slot = jnp.where(new, proposal.note, capacity)
        # Idle slots are no evaluations, and nobody waits for them.
        over = jnp.where(new | (proposal.budget == 0), proposal.note, capacity)
        return state._replace(
            unit=state.unit.at[slot].set(proposal.unit.astype(state.unit.dtype), mode="drop"),
            loss=state.loss.at[slot].set(loss, mode="drop"),
            told=state.told.at[slot].set(True, mode="drop"),
            pending=state.pending.at[over].set(False, mode="drop"),
        )

    def stop(state: TPEState) -> chex.Array:
        spent = state.asked >= capacity
        return jnp.where(spent, StopReason.BUDGET, StopReason.RUNNING).astype(jnp.int32)

    rounds = -(-capacity // population)
    needs = parts.SCRATCH._replace(budgets=True, order=False, rounds=rounds)
    return Strategy(init, ask, tell, needs, stop, space)


def good_count(told: int) -> int:
    """How many of the evaluations count as good."""
    return min(math.ceil(GOOD_SHARE * told), MOST_GOOD)
