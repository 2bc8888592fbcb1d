"""SHADE: differential evolution with a memory of parameters that succeeded."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from metahpo import checks, draws
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Space
from metahpo.strategies import parts, redraw
from metahpo.strategies.de import memory, trials


class SHADEState(NamedTuple):
    """The population, what it replaced, and the memory of parameters."""

    unit: chex.Array  # f[P, D]
    loss: chex.Array  # f[P], inf before the first round is told
    archive: trials.Archive
    memory: memory.Memory
    round: chex.Array  # i32[]: proposals made


def shade(
    space: Space,
    population: int = 100,
    initial: parts.Initial | None = None,
    *,
    memory_size: int = 100,
    best_share: float = 0.2,
    archive_rate: float = 1.0,
) -> Strategy:
    """SHADE, success-history based adaptive differential evolution (Tanabe & Fukunaga 2013).

    Trials are those of ``jade`` (current-to-pbest/1/bin with archive).  Each draws its weight ``F``
    and crossover rate ``CR`` around a random entry of a memory; every round with a success
    overwrites the oldest entry with the means of what succeeded, weighted by the improvement.  The
    share of the population that counts as best is drawn for each trial, between two members and
    ``best_share``.  The first round evaluates the initial population.

    A coordinate that leaves the unit interval is put midway between its parent and the bound.
    About four times a round an integer or a choice of a trial is drawn anew, because a value that
    all members have lost cannot come back from their differences.

    Args:
        space: the search space.
        population: members, ``P``, at least 4.
        initial: first members (a warm start): hyperparameters, a list of them, or points of the
            unit cube ``f[K, D]``, ``K <= P``; the rest is uniform.  May be traced.
        memory_size: ``H``, at least 1; all entries start at 1/2.
        best_share: the largest ``p``, in (0, 1].
        archive_rate: the archive's size as a multiple of ``P``, at least 0.

    Returns:
        A Strategy.  Its ``stop`` says ``COLLAPSE`` when all points are equal.

    Raises:
        ValueError: if ``population < 4``, another argument is out of range, or ``initial`` has a
            wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0, shape=(2,))}
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(lambda h: (h["x"] ** 2).sum()), space,
        ...     shade(space, population=10), rounds=20, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-2)
        True
    """
    population = parts.check_population("shade", population, trials.SMALLEST_POPULATION)
    initial = parts.check_initial(space, population, initial)
    memory_size = checks.whole("memory_size", memory_size)
    checks.share("best_share", best_share)
    size = spaces.size(space)
    columns = redraw.discrete(space)
    most = trials.best_count(best_share, population)
    rows = trials.archive_size(archive_rate, population)

    def init(key: Key) -> SHADEState:
        unit = parts.starting_points(key, space, population, initial)
        loss = jnp.full(population, jnp.inf, unit.dtype)
        archive = trials.empty_archive(rows, unit)
        first = memory.first_memory(memory_size, unit.dtype)
        return SHADEState(unit, loss, archive, first, jnp.zeros((), jnp.int32))

    def ask(key: Key, state: SHADEState) -> tuple[Proposal, SHADEState]:
        key, redraw_key = redraw.keys(key, columns)
        fine, coarse = trials.random_draws(key, 8, population, size)
        weight, rate = memory.recalled(fine[:3], state.memory)
        # Eq. 5 of the source, p_i ~ U[2/P, best_share], as a whole number of members.
        count = jnp.round(2.0 + fine[3] * (most - 2.0)).astype(jnp.int32)
        best = trials.best_others(fine[4], state.loss, most, count)
        trial = trials.current_to_pbest(
            fine[5:], coarse, state.unit, state.archive, best, weight, rate
        )
        trial = redraw.mutated(redraw_key, trial, columns)
        trial = parts.inherited(space, trial, state.unit)
        unit = jnp.where(state.round == 0, state.unit, trial)
        note = trials.Parameters(weight, rate, state.round == 0)
        return parts.proposal(unit, note=note), state._replace(round=state.round + 1)

    def tell(key: Key, state: SHADEState, proposal: Proposal, evaluation: Evaluation) -> SHADEState:
        loss = parts.finite_loss(evaluation, state.loss)
        accept = trials.not_worse(loss, state.loss) & parts.told(proposal, evaluation)
        note = proposal.note
        success = (loss < state.loss) & ~note.first
        gain = memory.improvements(success, state.loss, loss)
        weight = memory.lehmer_mean(note.weight, gain)  # eqs. 8 and 9
        rate = memory.mean(note.rate, gain)
        draw = draws.uniform(key, (population,))
        return state._replace(
            unit=jnp.where(accept[:, None], proposal.unit, state.unit),
            loss=jnp.where(accept, loss, state.loss),
            archive=trials.archived(draw, state.archive, state.unit, success),
            memory=memory.remembered(state.memory, weight, rate, success),
        )

    def stop(state: SHADEState) -> chex.Array:
        return trials.collapsed(state.unit, state.archive, space)

    return Strategy(init, ask, tell, parts.SCRATCH._replace(order=False), stop, space=space)
