"""Tree-structured Parzen estimators."""

import math
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks, quasirandom
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Space
from metahpo.strategies import parts
from metahpo.surrogates import parzen

MOST_BELOW = 25  # observations that count as good
SHARE_BELOW = 0.1
EMPTY = np.iinfo(np.int32).max


class Trials(NamedTuple):
    """What was asked and told, the oldest first, in ``N`` slots."""

    number: chex.Array  # i32[N]: EMPTY for a free slot
    unit: chex.Array  # f[N, D]
    loss: chex.Array  # f[N]: inf where it failed, or is not told yet
    told: chex.Array  # bool[N]


class TPEState(NamedTuple):
    """The evaluations so far, how many were asked for, and the points that came first."""

    trials: Trials
    asked: chex.Array  # i32[]
    first: chex.Array  # f[P, D]
    sequence: quasirandom.Sobol | None


def tpe(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    capacity: int = 500,
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

    A failed evaluation counts among the rest.  Points stay in the cube because kernels are
    truncated there.

    Args:
        space: the search space.
        population: points a round, ``P``; with 1 every point learns from all before.
        initial: first points: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``, ``K <= P``.  May be traced.
        capacity: evaluations that are remembered, at least ``P``; beyond so many, the oldest of
            those that are not among the best are forgotten.  A point costs as much time as there
            is capacity, so take the number of evaluations that the run will make, or somewhat less.
        startup: evaluations that must be told before the first density is fitted, at least 1.
        first: where points come from until then: ``"random"`` or ``"sobol"``.
        candidates: points drawn from ``l`` for each that is proposed.

    Returns:
        A Strategy.

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
    # In double precision, where a tenth of 30 is 3.
    below_of = np.array([math.ceil(SHARE_BELOW * n) for n in range(capacity + 1)])
    below_of = np.minimum(below_of, MOST_BELOW).astype(np.int32)
    room = min(MOST_BELOW, capacity)

    def init(key: Key) -> TPEState:
        first_key, sequence_key = jax.random.split(key)
        sequence = None if published is None else quasirandom.scrambled(sequence_key, published)
        unit = _starting(first_key, sequence, jnp.zeros((), jnp.int32))
        if initial is not None:
            given = parts.starting_points(first_key, space, population, initial)
            unit = unit.at[: len(initial)].set(given[: len(initial)])
        trials = Trials(
            jnp.full(capacity, EMPTY, jnp.int32),
            jnp.zeros((capacity, size), unit.dtype),
            jnp.full(capacity, jnp.inf, unit.dtype),
            jnp.zeros(capacity, bool),
        )
        return TPEState(trials, jnp.zeros((), jnp.int32), unit, sequence)

    def _starting(key: Key, sequence: quasirandom.Sobol | None, asked: chex.Array) -> chex.Array:
        if sequence is None:
            return parts.uniform(key, space, population)
        return quasirandom.as_fractions(quasirandom.points(sequence, asked, population))

    def ask(key: Key, state: TPEState) -> tuple[Proposal, TPEState]:
        first_key, key = jax.random.split(key)
        start = jnp.where(state.asked > 0, _starting(first_key, state.sequence, state.asked),
                          state.first)  # fmt: skip
        number = state.asked + jnp.arange(population)
        trials = with_room(state.trials, population, _below(state.trials))
        good = _below(trials)
        begun = trials.told.sum() >= startup
        best = jnp.argsort(~good)[:room]
        low = parzen.fitted(dims, trials.unit[best], good[best])

        def propose(trials: Trials, each: tuple) -> tuple[Trials, chex.Array]:
            key, number, start = each
            rest = (trials.number < EMPTY) & ~good
            high = parzen.fitted(dims, trials.unit, rest)
            points = parzen.drawn(key, dims, low, candidates)
            score = parzen.log_density(dims, low, points) - parzen.log_density(dims, high, points)
            point = jnp.where(begun, points[jnp.argmax(score)], start)
            slot = (trials.number < EMPTY).sum()
            added = trials._replace(
                number=trials.number.at[slot].set(number), unit=trials.unit.at[slot].set(point)
            )
            return added, point

        keys = jax.random.split(key, population)
        trials, unit = jax.lax.scan(propose, trials, (keys, number, start))
        later = state._replace(trials=trials, asked=state.asked + population)
        return parts.proposal(unit, note=number), later

    def _below(trials: Trials) -> chex.Array:
        """``bool[N]``: which of the evaluations are the best ones."""
        count = jnp.asarray(below_of)[trials.told.sum()]
        rank = jnp.argsort(jnp.argsort(trials.loss))
        return (rank < count) & jnp.isfinite(trials.loss)

    def tell(key: Key, state: TPEState, proposal: Proposal, evaluation: Evaluation) -> TPEState:
        del key
        trials = state.trials
        loss = parts.finite_loss(evaluation, trials.loss)
        # What was forgotten meanwhile has no slot.
        slot = jnp.argmax(trials.number == proposal.note[:, None], axis=1)
        here = parts.told(proposal, evaluation) & (trials.number[slot] == proposal.note)
        slot = jnp.where(here, slot, capacity)
        return state._replace(
            trials=trials._replace(
                unit=trials.unit.at[slot].set(proposal.unit, mode="drop"),
                loss=trials.loss.at[slot].set(loss, mode="drop"),
                told=trials.told.at[slot].set(True, mode="drop"),
            )
        )

    return Strategy(init, ask, tell, parts.SCRATCH._replace(order=False), space=space)


def with_room(trials: Trials, slots: int, good: chex.Array) -> Trials:
    """The same trials with so many free slots at the end, if need be without the oldest ones.

    What is ``good`` or not yet told is forgotten last.
    """
    present = trials.number < EMPTY
    excess = present.sum() + slots - len(present)
    wanted = good | ~trials.told
    # Trials stand in the order of their age, which the sort keeps.
    rank = jnp.argsort(jnp.argsort(jnp.where(present, wanted.astype(jnp.int32), 2)))
    kept = present & (rank >= excess)
    order = jnp.argsort(~kept)
    number = jnp.where(kept, trials.number, EMPTY)[order]
    loss = jnp.where(kept, trials.loss, jnp.inf)[order]
    return Trials(number, trials.unit[order], loss, (trials.told & kept)[order])
