"""Asynchronous successive halving."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import (
    Evaluation,
    Key,
    Needs,
    Proposal,
    PyTree,
    RoundSize,
    StopReason,
    Strategy,
)
from metahpo.lanes import when
from metahpo.space import Space
from metahpo.strategies import parts
from metahpo.strategies.along_training import rungs
from metahpo.strategies.along_training.brackets import check_sampler
from metahpo.strategies.random import random


class Batches(NamedTuple):
    """Configurations as a sampler proposed them: that of slot ``i`` is ``i % W`` of ``i // W``."""

    proposal: Proposal  # [B, W]
    count: chex.Array  # i32[]: how many there are yet
    sampler: PyTree


class ASHAState(NamedTuple):
    """Where every configuration stands."""

    batches: Batches
    rung: chex.Array  # i32[P]: the highest that it began; -1 before
    told: chex.Array  # bool[R, P]: whether its loss in a rung is known
    loss: chex.Array  # f[R, P]: and what it is


def asha(
    space: Space,
    population: int,
    max_steps: int,
    *,
    min_steps: int = 1,
    eta: int = 3,
    workers: int = 1,
    sampler: Strategy | None = None,
) -> Strategy:
    """Successive halving that waits for nobody (Li et al. 2020, algorithm 2).

    Whenever a worker is free, it promotes a configuration, from the highest rung that has one in
    the best ``1 / eta`` of those whose losses are known there and that was not promoted yet: this
    goes on from where it is until it has ``eta`` times as many updates.  Where there is none, a new
    configuration begins in the bottom rung.  Of several the one with the lowest loss is promoted,
    of equal ones the first.  One whose loss is not finite counts as known and is never promoted.

    ``mh.minimize(..., asynchronous=True)`` and ``mh.run.AskTell(..., trainings=True)`` give each
    candidate to a worker while others are pending; keep ``workers=1`` there, since a round is what
    is asked for at once.  ``AskTell`` raises ``mh.run.WaitingError`` when there is nothing to do
    before something pending is told.  In ``search`` a round lasts as long as its longest member, so
    a rung of many updates keeps everybody waiting: ``successive_halving`` wastes less.

    A configuration keeps its slot, and its training, so there are as many configurations as slots.
    When all have begun and nobody can be promoted any more, ``stop`` says ``BUDGET``; asked to go
    on nevertheless, all slots are idle.

    Args:
        space: the search space.
        population: configurations, ``P``.
        max_steps: updates of a configuration in the top rung: ``min_steps`` times a power of
            ``eta``.
        min_steps: updates in the bottom rung, at least 1.
        eta: one of so many is promoted, at least 2.
        workers: configurations that train in a round, at most ``P``.
        sampler: a strategy with a population of ``workers`` whose losses may be told in any order
            (``needs.order=False``).  It proposes who begins, and is told the loss of each in the
            bottom rung, where all can be compared; uniform without one.

    Returns:
        A Strategy.

    Raises:
        ValueError: if ``max_steps`` is not ``min_steps`` times a power of ``eta``, ``eta < 2``, the
            population is too small for the top rung, there are more workers than members, or the
            sampler is of another population, of another space, trains on, keeps an order or has
            not room for all configurations.

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Float(0.0, 1.0)}
        >>> tuner = mh.run.AskTell(space, asha(space, 9, max_steps=9), trainings=True)
        >>> budgets = []
        >>> for _ in range(6):
        ...     candidate = tuner.ask()
        ...     budgets.append(candidate.budget)
        ...     tuner.tell(candidate.number, candidate.hparams["x"])
        >>> budgets  # the best of three is promoted as soon as it is known
        [1, 1, 1, 2, 1, 1]
    """
    steps, eta = rungs.fidelities(min_steps, max_steps, eta), int(eta)
    population = rungs.check_population("asha", population, steps, eta)
    workers = checks.whole("workers", workers)
    if workers > population:
        raise ValueError(f"workers must be at most the population {population}, got {workers}")
    sampler = random(space, workers) if sampler is None else sampler
    check_sampler(space, workers, sampler)
    most = -(-population // workers)
    _check_any_order(sampler, most)
    size = spaces.size(space)
    granted = np.diff([0, *steps]).astype(np.int32)
    levels, slots = np.arange(len(steps)), np.arange(population)

    def init(key: Key) -> ASHAState:
        own = sampler.init(key)
        batch, _ = jax.eval_shape(sampler.ask, key, own)
        proposal = jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), batch)
        return ASHAState(
            batches=Batches(proposal, jnp.zeros((), jnp.int32), own),
            rung=jnp.full(population, -1, jnp.int32),
            told=jnp.zeros((len(steps), population), bool),
            loss=jnp.full((len(steps), population), jnp.inf, batch.unit.dtype),
        )

    def ask(key: Key, state: ASHAState) -> tuple[Proposal, ASHAState]:
        promotable, begun = _promotable(state, eta), state.rung >= 0
        # The highest rung first, in it the lowest loss; new ones come last, in their order.
        loss = state.loss[jnp.maximum(state.rung, 0), slots]
        urgency = jnp.where(promotable, state.rung, jnp.where(begun, -2, -1))
        order = jnp.lexsort((jnp.where(promotable, loss, 0.0), -urgency))
        rank = jnp.zeros_like(order).at[order].set(slots)
        chosen = (rank < workers) & (promotable | ~begun)
        rung = jnp.where(chosen, state.rung + 1, state.rung)
        parent = jnp.where(promotable & chosen, slots, -1).astype(jnp.int32)
        budget = jnp.where(chosen, jnp.asarray(granted)[rung], 0)
        missing = (rung >= 0).sum() > state.batches.count * workers
        batches = when(missing, drawn, state.batches, key)
        unit = batches.proposal.unit.reshape(-1, size)[:population]
        return Proposal(unit, parent, budget), state._replace(batches=batches, rung=rung)

    def drawn(batches: Batches, key: Key) -> Batches:
        batch, own = sampler.ask(key, batches.sampler)
        proposal = jax.tree.map(
            lambda all_, new: all_.at[batches.count].set(new), batches.proposal, batch
        )
        return Batches(proposal, batches.count + 1, own)

    def tell(key: Key, state: ASHAState, proposal: Proposal, evaluation: Evaluation) -> ASHAState:
        # Who is pending began no other rung since.
        there = parts.told(proposal, evaluation) & (levels[:, None] == state.rung)
        loss = parts.finite_loss(evaluation, state.loss)
        # Those that began together are of one batch, or of one and the next.
        batch = jnp.argmax(there[0]) // workers
        batches = state.batches
        for number in (batch, batch + 1):
            mine = there[0] & (slots // workers == number)
            batches = when(mine.any(), sampler_told, batches, key, number, mine, loss)
        return state._replace(
            batches=batches, told=state.told | there, loss=jnp.where(there, loss, state.loss)
        )

    def sampler_told(
        batches: Batches, key: Key, number: chex.Array, mine: chex.Array, loss: chex.Array
    ) -> Batches:
        batch = jax.tree.map(lambda leaf: leaf[number], batches.proposal)
        at = number * workers + jnp.arange(workers)
        mine = mine.at[at].get(mode="fill", fill_value=False)
        loss = loss.at[at].get(mode="fill", fill_value=jnp.inf)
        known = Evaluation(loss, None, jnp.where(mine, steps[0], 0).astype(jnp.int32))
        key = jax.random.fold_in(key, number)
        return batches._replace(sampler=sampler.tell(key, batches.sampler, batch, known))

    def stop(state: ASHAState) -> chex.Array:
        pending = ~state.told[state.rung, slots]
        busy = (state.rung < 0) | pending | _promotable(state, eta)
        return jnp.where(busy.any(), StopReason.RUNNING, StopReason.BUDGET).astype(jnp.int32)

    needs = Needs(order=False, sizes=(RoundSize(workers, int(granted.max())),))
    return Strategy(init, ask, tell, needs, stop, space)


def _promotable(state: ASHAState, eta: int) -> chex.Array:
    """``bool[P]``: who is in the best ``1 / eta`` of a rung, and has not gone further."""
    count = state.told.sum(axis=1) // eta
    loss = jnp.where(state.told, state.loss, jnp.inf)
    winners = jax.vmap(rungs.best)(loss, count)
    top = np.arange(len(count)) == len(count) - 1
    here = np.arange(len(count))[:, None] == state.rung
    return (winners & here & ~top[:, None]).any(axis=0)


def _check_any_order(sampler: Strategy, rounds: int) -> None:
    if sampler.needs.order:
        raise ValueError(
            "sampler must take losses in any order (needs.order=False), as gaussian_process, tpe, "
            "differential_evolution and sobol do; this one must be told a round as a whole"
        )
    if sampler.needs.rounds is not None and sampler.needs.rounds < rounds:
        raise ValueError(
            f"sampler must have room for {rounds} rounds, in which all configurations begin, got "
            f"one with room for {sampler.needs.rounds}; raise its capacity"
        )
