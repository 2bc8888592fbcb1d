"""Population based bandits."""

from collections.abc import Collection
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks, draws
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Needs, Proposal, Strategy
from metahpo.space import Choice, Space
from metahpo.strategies import parts
from metahpo.strategies.along_training.exploit_explore import explorer, selector
from metahpo.strategies.along_training.trust_region import Region, started, updated
from metahpo.surrogates import kernels
from metahpo.surrogates.gaussian_process import (
    Numbers,
    Observations,
    best_numbers,
    empty,
    extended,
    posterior,
)
from metahpo.surrogates.kernels import Kernel
from metahpo.surrogates.local_moves import Box
from metahpo.surrogates.maximise import Search, around, everywhere, suggestions

SMALLEST_POPULATION = 2  # a winner and a loser
LARGEST_REWARD = 2.0  # in standard deviations
DRAWN_NUMBERS = 4  # every round, beside the last ones
CONTEXT = 4.0  # prior variance of the slope by the loss before, for standardised rewards and losses


class PB2State(NamedTuple):
    """What the next round proposes, and what the process has seen."""

    unit: chex.Array  # f[P, D]
    parent: chex.Array  # i32[P]
    loss: chex.Array  # f[P]: after the round before
    round: chex.Array  # i32[]
    data: Observations  # a ring of N slots: points of the unit cube, time, context
    numbers: Numbers
    region: Region | None


def pb2(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    selection: str = "truncation",
    truncation: float = 0.25,
    resample_probability: chex.Numeric = 0.25,
    exploration: chex.Numeric = 1.0,
    trust_region: chex.Numeric | None = 0.8,
    window: int | None = None,
    frozen: Collection[str] = (),
) -> Strategy:
    """Population based bandits (Parker-Holder, Nguyen & Roberts 2020, algorithm 1).

    Losers copy winners as in ``pbt``.  Their hyperparameters are then chosen by a bandit: a
    Gaussian process that forgets learns how much a round of training with given hyperparameters
    improves the loss, and every loser takes the point of the highest upper confidence bound, given
    that the losers before it try theirs (GP-BUCB).

    By default they choose within a trust region around what they copied, which halves when copies
    keep losing against their parents and doubles when some win (TuRBO, Eriksson et al. 2019; for
    populations BG-PBT, Wan et al. 2022).  So a fixed optimum is found to any accuracy, where the
    bandit on the whole cube, with its few observations, stays as far away as it began.  Integers
    and choices make local moves there (Casmopolitan, Wan et al. 2021), and the bandit sees them.  A
    region that has collapsed starts again, and with it all losers, anywhere.

    ``trust_region=None`` is the paper's PB2: floats and integers are chosen anywhere in the cube,
    and choices are drawn anew as in ``pbt``.

    Two more things differ from the paper.  A round's improvements are standardised over the
    population, as the bandit need not know that all improve more slowly in the end; a failure
    counts as ``-2``.  And the improvement depends linearly on the loss before, else the process
    would take a member that had further to fall for one with good hyperparameters.

    The length scale, the forgetting and the noise are those of the highest evidence among the last
    ones and four drawn ones, every round.  The bound is maximised over drawn points and then
    over neighbours of the best, so no two losers become clones.

    Args:
        space: the search space, with a ``Float`` or ``Int`` at least that is not frozen.
        population: members, ``P``, at least 2.
        initial: first members: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``, ``K <= P``; the rest is uniform.  May be traced.
        selection: ``"truncation"`` or ``"tournament"``, as in ``pbt``.
        truncation: the share of winners and of losers, in (0, 1/2]; at least one member each.
        resample_probability: in [0, 1], for every choice of a loser; in a trust region, of every
            candidate among which the bandit chooses, and there for an integer as well.
        exploration: how many standard deviations the upper bound lies above the mean, at least 0.
        trust_region: the edge of the region in the unit cube at first, in (0, 1]; ``None`` for the
            whole cube in every round.
        window: how many trainings of one round each the process remembers, at least ``P``; by
            default four rounds, and 64 at least.  A round costs ``window ** 3``.
        frozen: names of dimensions that a loser inherits as they are.

    Returns:
        A Strategy.

    Raises:
        ValueError: if ``population < 2``, ``window < population``, a probability, share or edge is
            out of range, ``selection`` or a name in ``frozen`` is unknown, nothing is left for the
            bandit to choose, or ``initial`` has a wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"lr": mh.Float(1e-3, 1.0, log=True)}
        >>> strategy = pb2(space, population=8)
        >>> proposal, _ = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(1)))
        >>> proposal.parent.tolist()  # the first round trains from scratch
        [-1, -1, -1, -1, -1, -1, -1, -1]
    """
    population = parts.check_population("pb2", population, SMALLEST_POPULATION)
    initial = parts.check_initial(space, population, initial)
    exploit = selector(selection, population, truncation)
    mutate = explorer(space, resample_probability, 0.1, None, frozen)
    window = max(4 * population, 64) if window is None else window
    window = checks.whole("window", window, at_least=population)
    _check_numbers(exploration, trust_region)
    dims = list(spaces.dimensions(space).values())
    ordered = np.array([not isinstance(d, Choice) for d in dims])
    free = ~parts.named(space, frozen)
    if not (free & ordered).any():
        raise ValueError("pb2 needs a Float or an Int that is not frozen, got none")
    columns = np.flatnonzero(free if trust_region is not None else free & ordered)
    chosen = [dims[column] for column in columns]

    def init(key: Key) -> PB2State:
        unit = parts.starting_points(key, space, population, initial)
        fresh = jnp.full(population, -1, jnp.int32)
        numbers = Numbers(((0.3 * len(columns) ** 0.5, 0.1), ()), 0.1)
        numbers = jax.tree.map(lambda leaf: jnp.asarray(leaf, unit.dtype), numbers)
        zeros = jnp.zeros(population, unit.dtype)
        data = empty(window, len(columns) + 2, unit.dtype)
        region = None if trust_region is None else started(trust_region, unit.dtype)
        return PB2State(unit, fresh, zeros, jnp.zeros((), jnp.int32), data, numbers, region)

    def ask(key: Key, state: PB2State) -> tuple[Proposal, PB2State]:
        del key
        return parts.proposal(state.unit, state.parent), state

    def tell(key: Key, state: PB2State, proposal: Proposal, evaluation: Evaluation) -> PB2State:
        keys = jax.random.split(key, 5)
        loss = parts.finite_loss(evaluation, proposal.unit)
        before = jnp.where(proposal.parent < 0, 0.0, state.loss[proposal.parent])
        shown = spaces.canonical(space, proposal.unit)[:, columns]
        data = remember(state.data, state.round, shown, before, loss)
        source = exploit(keys[1], loss)
        copied = source != jnp.arange(population)
        unit = mutated = proposal.unit[source]
        anywhere = parts.uniform(keys[4], space, population)
        region, search = state.region, everywhere(chosen)
        if region is None:
            mutated = jnp.where(ordered, unit, mutate(keys[2], unit, 1.0))
        else:
            region = updated(region, loss, proposal.parent, chosen, trust_region)
            best = proposal.unit[jnp.argmin(loss), columns]
            box = Box(chosen, region.length, best, resample_probability)
            search = around(box, unit[:, columns])
        round_ = state.round + 1
        points, told = jnp.split(data.x, [len(columns)], axis=1)
        seen = data._replace(x=jnp.concatenate([search.embed(points), told], axis=1))
        numbers = fitted(keys[0], state.numbers, seen, len(columns))
        kernel = bandit(seen.x.shape[1] - 2)
        process = posterior(kernel, numbers, extended(seen, population))
        search = at_time(search, round_)
        points = suggestions(keys[3], kernel, process, window, copied, exploration, search)
        if region is not None:
            points = jnp.where(region.restarted, anywhere[:, columns], points)
        mutated = parts.inherited(space, mutated.at[:, columns].set(points), unit)
        unit = jnp.where(copied[:, None], mutated, unit)
        # Nobody is worth copying when every loss is infinite: all start again.
        lost = jnp.isinf(loss).all()
        unit = jnp.where(lost, anywhere, unit)
        return PB2State(unit, jnp.where(lost, -1, source), loss, round_, data, numbers, region)

    return Strategy(init, ask, tell, Needs(budgets=False), space=space)


def _check_numbers(exploration: chex.Numeric, trust_region: chex.Numeric | None) -> None:
    if checks.known(exploration) and not exploration >= 0:
        raise ValueError(f"exploration must be at least 0, got {exploration}")
    if trust_region is not None and checks.known(trust_region) and not 0 < trust_region <= 1:
        raise ValueError(f"trust_region must be in (0, 1] or None, got {trust_region}")


def bandit(size: int) -> Kernel:
    """The covariance of two rewards, over ``size`` coordinates, then the time, then the context.

    Rewards are standardised, so their variance is 1.  Predictions are for the context 0.
    """
    near = kernels.exponential(kernels.squared(range(size)), kernels.forgetting(size))
    return kernels.total(near, kernels.linear(size + 1, CONTEXT))


def at_time(search: Search, time: chex.Array) -> Search:
    """The search for points that will be evaluated at a time, in the context 0."""

    def embed(points: chex.Array) -> chex.Array:
        told = jnp.array([1.0, 0.0], points.dtype) * time.astype(points.dtype)
        return jnp.concatenate([search.embed(points), jnp.tile(told, (len(points), 1))], axis=1)

    return search._replace(embed=embed)


def remember(
    data: Observations, at: chex.Array, x: chex.Array, before: chex.Array, loss: chex.Array
) -> Observations:
    """Writes a round's rewards, of rounds ``at``, over the oldest ones."""
    population, slots = len(x), len(data.mask)
    place = (at * population + jnp.arange(population)) % slots
    reward = standardised(before - loss, -LARGEST_REWARD)
    time = jnp.full(population, at, x.dtype)
    told = jnp.stack([time, standardised(before, 0.0)], axis=1)
    new = Observations(jnp.concatenate([x, told], axis=1), reward, jnp.ones(population, bool))
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


def fitted(key: Key, last: Numbers, data: Observations, size: int) -> Numbers:
    """The last numbers or drawn ones, whichever explain the observations best."""
    length, forgetting, noise = draws.uniform(key, (3, DRAWN_NUMBERS))
    lengthscale = size**0.5 * 10 ** (length - 1)  # 0.1 to 1 of the cube's edge and more
    forgetting = 0.5 * 10 ** (-2 * forgetting)  # 0.005 to 0.5
    drawn = Numbers(((lengthscale, forgetting), ()), 10 ** (-2 * noise))  # 0.01 to 1
    candidates = jax.tree.map(lambda a, b: jnp.append(a, b.astype(a.dtype)), last, drawn)
    return best_numbers(bandit(data.x.shape[1] - 2), candidates, data)[0]
