"""Population based bandits."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Choice, Dimension, Int, Space
from metahpo.strategies import draws, parts
from metahpo.strategies.exploit_explore import explorer, reflected, selector
from metahpo.strategies.gp_bandit import (
    Kernel,
    Observations,
    Posterior,
    best_kernel,
    hallucinate,
    posterior,
    predict,
)

SMALLEST_POPULATION = 2  # a winner and a loser
LARGEST_REWARD = 2.0  # in standard deviations
DRAWN_KERNELS = 4  # every round, beside the last one
CANDIDATES = 128  # uniform ones for every suggestion
NEIGHBOURS, RADII = 32, (0.1, 0.03)  # of the best one so far, in the unit cube


class PB2State(NamedTuple):
    """What the next round proposes, and what the process has seen."""

    unit: chex.Array  # f[P, D]
    parent: chex.Array  # i32[P]
    loss: chex.Array  # f[P]: after the round before
    round: chex.Array  # i32[]
    data: Observations  # a ring of N slots
    kernel: Kernel


def pb2(
    space: Space,
    population: int,
    initial: chex.Array | None = None,
    *,
    selection: str = "truncation",
    truncation: float = 0.25,
    resample_probability: chex.Numeric = 0.25,
    exploration: chex.Numeric = 1.0,
    window: int | None = None,
    frozen: Collection[str] = (),
) -> Strategy:
    """Population based bandits (Parker-Holder, Nguyen & Roberts 2020, algorithm 1).

    Losers copy winners as in ``pbt``.  Their floats and integers are then chosen by a bandit: a
    Gaussian process that forgets learns how much a round of training with given hyperparameters
    improves the loss, and every loser takes the point of the highest upper confidence bound, given
    that the losers before it try theirs (GP-BUCB).  Choices are drawn anew as in ``pbt``.

    Two things differ from the paper.  A round's improvements are standardised over the population,
    as the bandit need not know that all improve more slowly in the end; a failure counts as
    ``-2``.  And the improvement depends linearly on the loss before, else the process would take
    a member that had further to fall for one with good hyperparameters.

    The kernel's length scale, forgetting and noise are those of the highest evidence among the last
    ones and four drawn ones, every round.  The bound is maximised over uniform points and then
    over neighbours of the best, so no two losers become clones.

    Args:
        space: the search space, with a ``Float`` or ``Int`` at least that is not frozen.
        population: members, ``P``, at least 2.
        initial: ``f[K, D]`` with ``K <= P``, first members in the unit cube; may be traced.  The
            rest is uniform.
        selection: ``"truncation"`` or ``"tournament"``, as in ``pbt``.
        truncation: the share of winners and of losers, in (0, 1/2]; at least one member each.
        resample_probability: in [0, 1], for every choice of a loser.
        exploration: how many standard deviations the upper bound lies above the mean, at least 0.
        window: how many trainings of one round each the process remembers, at least ``P``; by
            default four rounds, and 64 at least.  A round costs ``window ** 3``.
        frozen: names of dimensions that a loser inherits as they are.

    Returns:
        A Strategy.

    Raises:
        ValueError: if ``population < 2``, ``window < population``, a probability or share is out of
            range, ``selection`` or a name in ``frozen`` is unknown, nothing is left for the bandit
            to choose, or ``initial`` has a wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"lr": mh.Float(1e-3, 1.0, log=True)}
        >>> strategy = pb2(space, population=8)
        >>> proposal, _ = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(1)))
        >>> proposal.parent.tolist()  # the first round trains from scratch
        [-1, -1, -1, -1, -1, -1, -1, -1]
    """
    parts.check_population("pb2", population, SMALLEST_POPULATION)
    parts.check_initial(space, population, initial)
    exploit = selector(selection, population, truncation)
    mutate = explorer(space, resample_probability, 0.1, None, frozen)
    if parts.known(exploration) and not exploration >= 0:
        raise ValueError(f"exploration must be at least 0, got {exploration}")
    window = max(4 * population, 64) if window is None else window
    if window != int(window) or window < population:
        raise ValueError(f"window must be a whole number of at least {population}, got {window}")
    dims = list(spaces.dimensions(space).values())
    ordered = np.array([not isinstance(d, Choice) for d in dims])
    columns = np.flatnonzero(~parts.named(space, frozen) & ordered)
    if not len(columns):
        raise ValueError("pb2 needs a Float or an Int that is not frozen, got none")
    chosen = [dims[column] for column in columns]

    def init(key: Key) -> PB2State:
        unit = parts.starting_points(key, space, population, initial)
        fresh = jnp.full(population, -1, jnp.int32)
        kernel = Kernel(0.3 * len(columns) ** 0.5, 0.1, 0.1)
        kernel = jax.tree.map(lambda leaf: jnp.asarray(leaf, unit.dtype), kernel)
        zeros = jnp.zeros(population, unit.dtype)
        data = empty(window, len(columns), unit.dtype)
        return PB2State(unit, fresh, zeros, jnp.zeros((), jnp.int32), data, kernel)

    def ask(key: Key, state: PB2State) -> tuple[Proposal, PB2State]:
        del key
        return parts.proposal(state.unit, state.parent), state

    def tell(key: Key, state: PB2State, proposal: Proposal, evaluation: Evaluation) -> PB2State:
        keys = jax.random.split(key, 5)
        loss = parts.finite_loss(evaluation, proposal.unit)
        before = jnp.where(proposal.parent < 0, 0.0, state.loss[proposal.parent])
        seen = snapped(chosen, proposal.unit[:, columns])
        data = remember(state.data, state.round, seen, before, loss)
        kernel = fitted(keys[0], state.kernel, data, len(columns))
        source = exploit(keys[1], loss)
        copied = source != jnp.arange(population)
        unit = proposal.unit[source]
        mutated = jnp.where(ordered, unit, mutate(keys[2], unit, 1.0))
        process = posterior(kernel, extended(data, population))
        points = suggestions(keys[3], process, window, copied, state.round + 1, exploration, chosen)
        unit = jnp.where(copied[:, None], mutated.at[:, columns].set(points), unit)
        # Nobody is worth copying when every loss is infinite: all start again.
        lost = jnp.isinf(loss).all()
        unit = jnp.where(lost, parts.uniform(keys[4], space, population), unit)
        return PB2State(unit, jnp.where(lost, -1, source), loss, state.round + 1, data, kernel)

    return Strategy(init, ask, tell)


def empty(slots: int, size: int, dtype: chex.ArrayDType) -> Observations:
    """No observations."""
    zeros = jnp.zeros(slots, dtype)
    return Observations(jnp.zeros((slots, size), dtype), zeros, zeros, zeros, zeros > 0)


def extended(data: Observations, slots: int) -> Observations:
    """The same observations, with empty slots behind them."""
    more = empty(slots, data.x.shape[1], data.x.dtype)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), data, more)


def remember(
    data: Observations, at: chex.Array, x: chex.Array, before: chex.Array, loss: chex.Array
) -> Observations:
    """Writes a round's rewards, of rounds ``at``, over the oldest ones."""
    population, slots = len(x), len(data.time)
    place = (at * population + jnp.arange(population)) % slots
    reward = standardised(before - loss, -LARGEST_REWARD)
    new = Observations(
        x,
        jnp.full(population, at, x.dtype),
        standardised(before, 0.0),
        reward,
        jnp.ones(population, bool),
    )
    return jax.tree.map(lambda old, value: old.at[place].set(value), data, new)


def standardised(values: chex.Array, otherwise: float) -> chex.Array:
    """``f[P]`` of mean 0 and variance 1, clipped; ``otherwise`` where a value is not finite."""
    finite = jnp.isfinite(values)
    count = jnp.maximum(finite.sum(), 1)
    known = jnp.where(finite, values, 0.0)
    # By the largest value first, which keeps sums and squares in range.
    known = known / jnp.maximum(jnp.abs(known).max(), jnp.finfo(values.dtype).tiny)
    centred = jnp.where(finite, known - known.sum() / count, 0.0)
    spread = jnp.sqrt(jnp.sum(centred**2) / count)
    scaled = centred / jnp.where(spread > 0, spread, 1.0)
    return jnp.where(finite, jnp.clip(scaled, -LARGEST_REWARD, LARGEST_REWARD), otherwise)


def fitted(key: Key, last: Kernel, data: Observations, size: int) -> Kernel:
    """The last kernel or a drawn one, whichever explains the observations best."""
    length, forgetting, noise = draws.uniform(key, (3, DRAWN_KERNELS))
    drawn = Kernel(
        lengthscale=size**0.5 * 10 ** (length - 1),  # 0.1 to 1 of the cube's edge and more
        forgetting=0.5 * 10 ** (-2 * forgetting),  # 0.005 to 0.5
        noise=10 ** (-2 * noise),  # 0.01 to 1
    )
    kernels = jax.tree.map(lambda a, b: jnp.append(a, b.astype(a.dtype)), last, drawn)
    return best_kernel(kernels, data)[0]


def suggestions(
    key: Key,
    process: Posterior,
    slot: int,
    wanted: chex.Array,
    time: chex.Array,
    exploration: chex.Numeric,
    dims: Sequence[Dimension],
) -> chex.Array:
    """``f[P, d]``: one point after the other for each of the ``wanted`` members, 0 for the rest.

    Args:
        key: random key.
        process: with ``P`` empty slots from ``slot`` on.
        slot: see above.
        wanted: ``bool[P]``.
        time: ``i32[]``, the round that the points are for.
        exploration: standard deviations above the mean.
        dims: of the ``d`` coordinates.
    """
    population, size = len(wanted), len(dims)
    dtype = process.data.x.dtype
    now = time.astype(dtype)
    members = jnp.argsort(~wanted)

    def bound(process: Posterior, points: chex.Array) -> chex.Array:
        mean, variance = predict(process, snapped(dims, points), now)
        return mean + exploration * jnp.sqrt(variance)

    def suggest(i: chex.Array, carry: tuple[Posterior, chex.Array]) -> tuple[Posterior, chex.Array]:
        process, points = carry
        rows = draws.uniform(
            jax.random.fold_in(key, i), (CANDIDATES + len(RADII) * NEIGHBOURS, size)
        ).astype(dtype)
        value = bound(process, rows[:CANDIDATES])
        best = rows[jnp.argmax(value)]
        value = value.max()
        for j, radius in enumerate(RADII):
            start = CANDIDATES + j * NEIGHBOURS
            near = reflected(best + radius * (2 * rows[start : start + NEIGHBOURS] - 1))
            values = bound(process, near)
            best = jnp.where(values.max() > value, near[jnp.argmax(values)], best)
            value = jnp.maximum(values.max(), value)
        process = hallucinate(process, slot + i, snapped(dims, best[None])[0], now)
        return process, points.at[members[i]].set(best)

    start = (process, jnp.zeros((population, size), dtype))
    return jax.lax.fori_loop(0, wanted.sum(), suggest, start)[1]


def snapped(dims: Sequence[Dimension], unit: chex.Array) -> chex.Array:
    """``f[..., d]``: integers at one point of their cell, as the objective is constant in it."""
    whole = [i for i, dim in enumerate(dims) if isinstance(dim, Int)]
    for i in whole:
        dim = dims[i]
        unit = unit.at[..., i].set(dim.encode(dim.decode(unit[..., i])).astype(unit.dtype))
    return unit
