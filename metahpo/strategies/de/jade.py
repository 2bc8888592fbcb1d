"""JADE: differential evolution that learns its own weights and crossover rates."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from metahpo import checks, draws
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Space
from metahpo.strategies import parts, redraw
from metahpo.strategies.de import memory, trials

MEANS = {"lehmer": memory.lehmer_mean, "arithmetic": memory.mean}


class JADEState(NamedTuple):
    """The population, what it replaced, and the means of the parameters."""

    unit: chex.Array  # f[P, D]
    loss: chex.Array  # f[P], inf before the first round is told
    archive: trials.Archive
    mean_weight: chex.Array  # f[], mu_F
    mean_rate: chex.Array  # f[], mu_CR
    round: chex.Array  # i32[]: proposals made


def jade(
    space: Space,
    population: int | None = None,
    initial: parts.Initial | None = None,
    *,
    best_share: float = 0.05,
    learning_rate: chex.Numeric = 0.1,
    archive_rate: float = 1.0,
    weight_mean: str = "lehmer",
) -> Strategy:
    """JADE, adaptive differential evolution (Zhang & Sanderson 2009).

    Every member moves towards one of the best and along the difference of another member and of
    one from the population or the archive of replaced members (current-to-pbest/1/bin).  Each
    trial draws its own weight ``F`` and crossover rate ``CR`` around two means, which follow those
    that led to better points.  The first round evaluates the initial population.

    A coordinate that leaves the unit interval is put midway between its parent and the bound.
    About four times a round an integer or a choice of a trial is drawn anew, because a value that
    all members have lost cannot come back from their differences.

    Args:
        space: the search space of ``D`` dimensions.
        population: members, ``P``, at least 4; by default the source's 30 up to ``D = 10``, 100 up
            to ``D = 30``, and 400 beyond.
        initial: first members (a warm start): hyperparameters, a list of them, or points of the
            unit cube ``f[K, D]``, ``K <= P``; the rest is uniform.  May be traced.
        best_share: ``p`` in (0, 1], the share of the population that counts as best, at least two
            members.
        learning_rate: ``c`` in [0, 1], how fast the means follow; may be traced.
        archive_rate: the archive's size as a multiple of ``P``; 0 is JADE without archive.
        weight_mean: how successful weights are averaged: ``"lehmer"``, as in the source, which
            favours large ones, or ``"arithmetic"``.

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
        ...     jade(space, population=10), rounds=20, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-3)
        True
    """
    size = spaces.size(space)
    columns = redraw.discrete(space)
    if population is None:
        population = 30 if size <= 10 else 100 if size <= 30 else 400
    population = parts.check_population("jade", population, trials.SMALLEST_POPULATION)
    initial = parts.check_initial(space, population, initial)
    checks.probability("learning_rate", learning_rate)
    checks.share("best_share", best_share)
    checks.one_of("weight_mean", weight_mean, MEANS)
    best = trials.best_count(best_share, population)
    rows = trials.archive_size(archive_rate, population)

    def init(key: Key) -> JADEState:
        unit = parts.starting_points(key, space, population, initial)
        half = jnp.full((), 0.5, unit.dtype)
        loss = jnp.full(population, jnp.inf, unit.dtype)
        archive = trials.empty_archive(rows, unit)
        return JADEState(unit, loss, archive, half, half, jnp.zeros((), jnp.int32))

    def ask(key: Key, state: JADEState) -> tuple[Proposal, JADEState]:
        key, redraw_key = redraw.keys(key, columns)
        fine, coarse = trials.random_draws(key, 6, population, size)
        rate = memory.normal(fine[0], state.mean_rate)
        weight = memory.cauchy(fine[1], state.mean_weight)
        weight, rate = trials.once(weight, rate)
        best_one = trials.best_others(fine[2], state.loss, best)
        trial = trials.current_to_pbest(
            fine[3:], coarse, state.unit, state.archive, best_one, weight, rate
        )
        trial = redraw.mutated(redraw_key, trial, columns)
        trial = parts.inherited(space, trial, state.unit)
        unit = jnp.where(state.round == 0, state.unit, trial)
        note = trials.Parameters(weight, rate, state.round == 0)
        return parts.proposal(unit, note=note), state._replace(round=state.round + 1)

    def tell(key: Key, state: JADEState, proposal: Proposal, evaluation: Evaluation) -> JADEState:
        loss = parts.finite_loss(evaluation, state.loss)
        note, better = proposal.note, loss < state.loss
        success = better & ~note.first
        draw = draws.uniform(key, (population,))
        learned = jnp.where(success.any(), learning_rate, 0.0).astype(loss.dtype)
        weight = MEANS[weight_mean](note.weight, success)  # eqs. 11 and 12
        rate = memory.mean(note.rate, success)
        return state._replace(
            unit=jnp.where(better[:, None], proposal.unit, state.unit),
            loss=jnp.where(better, loss, state.loss),
            archive=trials.archived(draw, state.archive, state.unit, success),
            mean_weight=(1.0 - learned) * state.mean_weight + learned * weight,
            mean_rate=(1.0 - learned) * state.mean_rate + learned * rate,
        )

    def stop(state: JADEState) -> chex.Array:
        return trials.collapsed(state.unit, state.archive, space)

    return Strategy(init, ask, tell, parts.SCRATCH._replace(order=False), stop, space=space)
