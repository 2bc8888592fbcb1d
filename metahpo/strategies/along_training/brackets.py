"""Brackets one after another: what successive halving and Hyperband share."""

import itertools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Needs, Proposal, PyTree, StopReason, Strategy
from metahpo.lanes import when
from metahpo.space import Space
from metahpo.strategies import parts
from metahpo.strategies.along_training import rungs
from metahpo.strategies.along_training.rungs import Bracket
from metahpo.strategies.random import random


class BracketState(NamedTuple):
    """Who trains in the next round, and what is known of the bracket's members."""

    round: chex.Array  # i32[]: of all brackets
    drawn: Proposal  # of the sampler: the bracket's members
    sampler: PyTree
    active: chex.Array  # bool[P]
    loss: chex.Array  # f[P]: after the most training that each one had
    steps: chex.Array  # i32[P]: behind it


def in_turn(
    space: Space, population: int, brackets: list[Bracket], sampler: Strategy | None
) -> Strategy:
    """A strategy that goes through brackets, and then begins again.

    A member stays in its slot for as long as its bracket lasts, so it goes on with its own keys.

    Args:
        space: the search space.
        population: slots, ``P``.
        brackets: each with at most ``P`` members.
        sampler: proposes the members of a bracket, see ``check_sampler``; uniform without one.
    """
    sampler = random(space, population) if sampler is None else sampler
    check_sampler(space, population, sampler)
    rounds = [rung for bracket in brackets for rung in bracket]
    members = np.array([rung.members for rung in rounds], np.int32)
    granted = np.array([rung.granted for rung in rounds], np.int32)
    steps = np.array([rung.steps for rung in rounds], np.int32)
    opens = np.array([rung is bracket[0] for bracket in brackets for rung in bracket])
    first = np.array([bracket[0].members for bracket in brackets for _ in bracket], np.int32)
    slots = np.arange(population, dtype=np.int32)
    forever = itertools.cycle(brackets)

    def place(state: BracketState) -> chex.Array:
        return state.round % len(rounds)

    def init(key: Key) -> BracketState:
        init_key, ask_key = jax.random.split(key)
        drawn, own = sampler.ask(ask_key, sampler.init(init_key))
        drawn = jax.tree.map(jnp.asarray, drawn)
        return BracketState(
            round=jnp.zeros((), jnp.int32),
            drawn=drawn,
            sampler=own,
            active=jnp.asarray(slots < members[0]) & (drawn.budget > 0),
            loss=jnp.full(population, jnp.inf, drawn.unit.dtype),
            steps=jnp.zeros(population, jnp.int32),
        )

    def ask(key: Key, state: BracketState) -> tuple[Proposal, BracketState]:
        del key
        t = place(state)
        parent = jnp.where(jnp.asarray(opens)[t], -1, slots)
        budget = jnp.where(state.active, jnp.asarray(granted)[t], 0)
        return Proposal(state.drawn.unit, parent, budget), state

    def tell(
        key: Key, state: BracketState, proposal: Proposal, evaluation: Evaluation
    ) -> BracketState:
        t = place(state)
        following = (t + 1) % len(rounds)
        count, is_over = jnp.asarray(members)[following], jnp.asarray(opens)[following]
        told = jnp.where(state.active, parts.finite_loss(evaluation, state.loss), jnp.inf)
        state = state._replace(
            round=state.round + 1,
            active=rungs.best(told, count),
            loss=jnp.where(state.active, told, state.loss),
            steps=jnp.where(state.active, jnp.asarray(steps)[t], state.steps),
        )
        return when(is_over, _next_bracket, state, key, jnp.asarray(first)[t], count)

    def _next_bracket(
        state: BracketState, key: Key, count: chex.Array, next_count: chex.Array
    ) -> BracketState:
        """The sampler is told of the members of the last bracket, and asked for the next ones."""
        tell_key, ask_key = jax.random.split(key)
        budget = jnp.where(slots < count, state.drawn.budget, 0)
        known = Evaluation(state.loss, None, state.steps)
        own = sampler.tell(tell_key, state.sampler, state.drawn._replace(budget=budget), known)
        drawn, own = sampler.ask(ask_key, own)
        return state._replace(
            drawn=jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), drawn, state.drawn),
            sampler=own,
            active=(slots < next_count) & (drawn.budget > 0),
            loss=jnp.full_like(state.loss, jnp.inf),
            steps=jnp.zeros_like(state.steps),
        )

    room = sampler.needs.rounds
    needs = Needs(
        sizes=rungs.round_sizes(brackets),
        rounds=None if room is None else sum(map(len, itertools.islice(forever, room))),
    )
    if (stop := sampler.stop) is None:
        return Strategy(init, ask, tell, needs, space=space)

    def spent(state: BracketState) -> chex.Array:
        """What the sampler says, once it proposes nobody for a bracket."""
        nobody = jnp.asarray(opens)[place(state)] & ~state.active.any()
        return jnp.where(nobody, stop(state.sampler), StopReason.RUNNING).astype(jnp.int32)

    return Strategy(init, ask, tell, needs, spent, space)


def check_sampler(space: Space, population: int, sampler: Strategy) -> None:
    """Raises ``ValueError`` unless members can come from a strategy.

    It must propose as many members as asked for, all to be trained from scratch, in the same space
    and without gradients.  Those that it leaves idle are nobody.
    """
    checks.record("sampler", sampler, Strategy, "a function of mh.strategies")
    needs = sampler.needs
    for needed in ("gradients", "trainings"):
        if getattr(needs, needed):
            raise ValueError(
                "sampler must be a strategy whose members train from scratch, and needs no "
                f"gradients; this one needs {needed}"
            )
    if sampler.space is not None and spaces.dimensions(sampler.space) != spaces.dimensions(space):
        raise ValueError(
            f"sampler must be made for the same space, of {list(spaces.dimensions(space))}, got "
            f"one of {list(spaces.dimensions(sampler.space))}"
        )
    key = jax.eval_shape(lambda: jax.random.key(0))
    proposal, _ = jax.eval_shape(lambda key: sampler.ask(key, sampler.init(key)), key)
    if (size := proposal.unit.shape[0]) != population:
        raise ValueError(f"sampler must have the population {population}, got {size}")
