"""L-SHADE: SHADE whose population shrinks linearly over a budget of evaluations."""

from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from metahpo import checks, draws
from metahpo import space as spaces
from metahpo.base import FULL_BUDGET, Evaluation, Key, Proposal, StopReason, Strategy
from metahpo.lanes import when
from metahpo.space import Space
from metahpo.strategies import parts, redraw
from metahpo.strategies.de import memory, trials

SMALLEST = trials.SMALLEST_POPULATION


class LSHADEState(NamedTuple):
    """The population, living members first, what it replaced, and the memory of parameters."""

    unit: chex.Array  # f[P, D]
    loss: chex.Array  # f[P], inf for the dead, and before the first round is told
    archive: trials.Archive
    memory: memory.Memory
    spent: chex.Array  # i32[]: evaluations told


def l_shade(
    space: Space,
    population: int | None = None,
    initial: parts.Initial | None = None,
    *,
    evaluations: int,
    memory_size: int = 6,
    best_share: float = 0.11,
    archive_rate: float = 2.6,
) -> Strategy:
    """L-SHADE: SHADE with linear population size reduction (Tanabe & Fukunaga 2014).

    Like ``shade``, with a short memory, weighted Lehmer means for ``F`` and ``CR``, and a terminal
    value: once only ``CR = 0`` succeeds, an entry stays at 0.  The population falls linearly with
    the evaluations, from ``P`` to 4 at ``evaluations``; the worst members go.

    A round still has ``P`` slots.  Those of members that are gone are idle (their budget is 0), and
    once ``evaluations`` are spent all are: exactly so many evaluations are made.

    Args:
        space: the search space of ``D`` dimensions.
        population: members at first, ``P``, at least 4; by default ``18 D``.
        initial: first members (a warm start): hyperparameters, a list of them, or points of the
            unit cube ``f[K, D]``, ``K <= P``; the rest is uniform.  May be traced.
        evaluations: the budget of evaluations, at least ``P``.
        memory_size: ``H``, at least 1; all entries start at 1/2.
        best_share: ``p`` in (0, 1], the share of the population that counts as best, at least two
            members.
        archive_rate: the archive's size as a multiple of the population's, at least 0.

    Returns:
        A Strategy.  Its ``stop`` says ``BUDGET`` when ``evaluations`` are spent, and ``COLLAPSE``
        when all points are equal.

    Raises:
        ValueError: if ``population < 4``, ``evaluations < population``, another argument is out of
            range, or ``initial`` has a wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0, shape=(2,))}
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(lambda h: (h["x"] ** 2).sum()), space,
        ...     l_shade(space, population=20, evaluations=600), rounds=60, steps=1,
        ... ))(jax.random.key(0))
        >>> int((result.history.budget > 0).sum()), bool(result.best_loss < 1e-2)
        (600, True)
    """
    size = spaces.size(space)
    columns = redraw.discrete(space)
    population = 18 * size if population is None else population
    population = parts.check_population("l_shade", population, SMALLEST)
    initial = parts.check_initial(space, population, initial)
    memory_size = checks.whole("memory_size", memory_size)
    checks.share("best_share", best_share)
    if not checks.is_whole(evaluations) or not population <= evaluations < FULL_BUDGET:
        raise ValueError(
            f"evaluations must be a whole number of at least the population {population}, "
            f"got {evaluations}"
        )
    limits = reductions(population, int(evaluations))
    best_counts = np.array([trials.best_count(best_share, n) for n in range(population + 1)])
    capacities = np.array([trials.archive_size(archive_rate, n) for n in range(population + 1)])

    def members(spent: chex.Array) -> chex.Array:
        return population - (spent >= limits).sum(dtype=jnp.int32)

    def live(spent: chex.Array) -> chex.Array:
        return jnp.arange(population) < jnp.minimum(members(spent), evaluations - spent)

    def init(key: Key) -> LSHADEState:
        unit = parts.starting_points(key, space, population, initial)
        loss = jnp.full(population, jnp.inf, unit.dtype)
        archive = trials.empty_archive(int(capacities[-1]), unit)
        first = memory.first_memory(memory_size, unit.dtype)
        return LSHADEState(unit, loss, archive, first, jnp.zeros((), jnp.int32))

    def ask(key: Key, state: LSHADEState) -> tuple[Proposal, LSHADEState]:
        key, redraw_key = redraw.keys(key, columns)
        fine, coarse = trials.random_draws(key, 7, population, size)
        alive = members(state.spent)
        weight, rate = memory.recalled(fine[:3], state.memory)
        count = jnp.asarray(best_counts, jnp.int32)[alive]
        best = trials.best_others(fine[3], state.loss, int(best_counts[-1]), count)
        trial = trials.current_to_pbest(
            fine[4:], coarse, state.unit, state.archive, best, weight, rate, alive
        )
        awake = live(state.spent)
        move = awake & (state.spent > 0)
        trial = redraw.mutated(redraw_key, trial, columns)
        trial = parts.inherited(space, trial, state.unit)
        unit = jnp.where(move[:, None], trial, state.unit)
        budget = jnp.where(awake, FULL_BUDGET, 0).astype(jnp.int32)
        note = trials.Parameters(weight, rate, state.spent == 0)
        return parts.proposal(unit, note=note)._replace(budget=budget), state

    def tell(
        key: Key, state: LSHADEState, proposal: Proposal, evaluation: Evaluation
    ) -> LSHADEState:
        awake = live(state.spent)
        loss = jnp.where(awake, parts.finite_loss(evaluation, state.loss), jnp.inf)
        alive, spent = members(state.spent), state.spent + awake.sum(dtype=jnp.int32)
        accept = awake & trials.not_worse(loss, state.loss, alive)
        success = (loss < state.loss) & ~proposal.note.first
        gain = memory.improvements(success, state.loss, loss)
        capacity = jnp.asarray(capacities, jnp.int32)
        draw = draws.uniform(key, (population,))
        archive = trials.archived(draw, state.archive, state.unit, success, capacity[alive])
        left = members(spent)
        unit = jnp.where(accept[:, None], proposal.unit, state.unit)
        unit, loss = when(left < alive, best_first, (unit, jnp.where(accept, loss, state.loss)))
        return state._replace(
            unit=unit,
            loss=jnp.where(jnp.arange(population) < left, loss, jnp.inf),
            # Rows are replaced at random, so the last ones are as good a choice as any.
            archive=archive._replace(size=jnp.minimum(archive.size, capacity[left])),
            memory=learned(state.memory, proposal.note, gain, success),
            spent=spent,
        )

    def stop(state: LSHADEState) -> chex.Array:
        dead = (jnp.arange(population) >= members(state.spent))[:, None]
        unit = jnp.where(dead, state.unit[0], state.unit)
        reason = trials.collapsed(unit, state.archive, space)
        return jnp.where(state.spent >= evaluations, StopReason.BUDGET, reason).astype(jnp.int32)

    return Strategy(init, ask, tell, parts.SCRATCH._replace(budgets=True), stop, space=space)


def learned(
    before: memory.Memory, note: trials.Parameters, gain: chex.Array, success: chex.Array
) -> memory.Memory:
    """The memory after a round (algorithm 1 of the source); the terminal value is -1."""
    weight = memory.lehmer_mean(note.weight, gain)
    rate = memory.lehmer_mean(note.rate, gain)
    ended = (before.rate[before.next] < 0) | ~(success & (note.rate > 0)).any()
    return memory.remembered(before, weight, jnp.where(ended, -1.0, rate), success)


def best_first(members: tuple[chex.Array, chex.Array]) -> tuple[chex.Array, chex.Array]:
    """Points and losses in the order of the losses."""
    unit, loss = members
    order = jnp.argsort(loss)
    return unit[order], loss[order]


def reductions(population: int, evaluations: int) -> np.ndarray:
    """``i32[P - 4]``: after how many evaluations each member goes, by eq. 10 of the source.

    The k-th goes when ``P - (P - 4) spent / evaluations``, rounded, first is at most ``P - k``.
    Whole numbers keep that exact.
    """
    fall = population - SMALLEST
    return np.array(
        [evaluations * (2 * k - 1) // (2 * fall) + 1 for k in range(1, fall + 1)], np.int32
    )
