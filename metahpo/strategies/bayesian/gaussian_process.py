"""Bayesian optimisation with a Gaussian process."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks, cube, lanes, quasirandom
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Choice, Dimension, Space
from metahpo.strategies import parts
from metahpo.surrogates import acquisition as acquisitions
from metahpo.surrogates import fit, gaussian_process as gp, kernels, promising
from metahpo.surrogates.acquisition import Acquisition
from metahpo.surrogates.gaussian_process import Numbers, Observations
from metahpo.surrogates.kernels import Kernel
from metahpo.surrogates.warping import half_ranked

SMALLEST_SLOTS = 32
LEAST_LENGTH, LEAST_NOISE = 0.025, 1e-4
FIT_STEPS, FIT_RATE = 24, 0.4
CENTRES = 3
LEAST_STD = 1e-6
DEDUP = 1
CONST = 0.0



class GaussianProcessState(NamedTuple):
    """What was evaluated, what waits for it, and the numbers of the process.

    Attributes:
        unit: ``f[N, D]``, points by their slot, in the order of asking.
        loss: ``f[N]``.
        told: ``bool[N]``, whose losses are known.
        asked: ``i32[]``, the slots in use, told or pending.
        free: ``f[F]``, the process's numbers, unconstrained, as they were last.
        sequence: of the first points.
        given: ``f[K, D]``, points to evaluate first.
    """

    unit: chex.Array
    loss: chex.Array
    told: chex.Array
    asked: chex.Array
    free: chex.Array
    sequence: quasirandom.Sobol
    given: chex.Array


def gaussian_process(
    space: Space,
    population: int = 1,
    initial: parts.Initial | None = None,
    *,
    acquisition: str | Acquisition = "log_ei",
    capacity: int = 256,
    first: int | None = None,
) -> Strategy:
    """Bayesian optimisation: a Gaussian process says where the next point promises most.

    Matern's kernel of order 5/2 with a length scale for every float and integer, and for every
    choice a penalty for being another; priors that need no tuning (Hvarfner, Hellsten & Nardi
    2024); losses by ``surrogates.warping.half_ranked``.  The numbers are fitted anew in every round
    by a fixed number of gradient steps.  The points of a round are chosen one after the other, each
    as if what was predicted at those before, and at pending ones, had been observed.

    Args:
        space: the search space.
        population: points a round, ``P``.
        initial: evaluated first: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``; may be traced.
        acquisition: ``"log_ei"``, ``"ei"``, ``"pi"``, ``"ucb"``, or a function of
            ``surrogates.acquisition``, or one of your own with the same arguments.
        capacity: evaluations that are remembered; when there are more, the worst are forgotten.
        first: points of a scrambled Sobol sequence before the first of the process; by default
            ``D + 1``, at least 4 and at most 16.

    Returns:
        A Strategy.

    Raises:
        ValueError: if a number is below 1, ``acquisition`` unknown, or the capacity below the first
            points and a round.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 2.0)}
        >>> strategy = mh.strategies.gaussian_process(space)
        >>> problem = mh.problems.function(lambda h: (h["x"] - 0.4) ** 2)
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, problem, space, strategy, rounds=20, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-4)
        True
    """
    population = parts.check_population("gaussian_process", population)
    dims = list(spaces.dimensions(space).values())
    size = len(dims)
    initial = parts.check_initial(space, max(population, capacity), initial)
    first = min(max(4, size + 1), 16) if first is None else checks.whole("first", first)
    capacity = checks.whole("capacity", capacity, at_least=first + population)
    if isinstance(acquisition, str):
        checks.one_of("acquisition", acquisition, acquisitions.BY_NAME)
        acquisition = acquisitions.BY_NAME[acquisition]
    else:
        checks.function("acquisition", acquisition, "(mean, std, best) -> value", *range(3))
    model = _model(dims)
    suggest = _suggestions(dims, model, acquisition, population, capacity)
    published = quasirandom.directions(size)

    def init(key: Key) -> GaussianProcessState:
        dtype = jnp.result_type(float)
        given = jnp.zeros((0, size), dtype) if initial is None else initial.astype(dtype)
        sobol_key, given_key = jax.random.split(key)
        drawn = parts.uniform(given_key, space, len(given))
        given = jnp.where(jnp.isfinite(given), jnp.clip(given, 0.0, 1.0), drawn)
        return GaussianProcessState(
            unit=jnp.zeros((capacity, size), dtype),
            loss=jnp.full(capacity, jnp.inf, dtype),
            told=jnp.zeros(capacity, bool),
            asked=jnp.zeros((), jnp.int32),
            free=model.start.astype(dtype),
            sequence=quasirandom.scrambled(sobol_key, published),
            given=given,
        )

    def ask(key: Key, state: GaussianProcessState) -> tuple[Proposal, GaussianProcessState]:
        number = state.asked + jnp.arange(population)
        sobol = quasirandom.as_fractions(
            quasirandom.points(state.sequence, state.asked, population)
        )
        # Nothing is known as long as too little was told.
        early = (state.asked < first) | (state.told.sum() < min(first, 2))
        unit, free = lanes.when(
            ~early,
            lambda x, key, state: suggest(key, state),
            (sobol.astype(state.unit.dtype), state.free),
            key,
            state,
        )
        unit = jnp.where(early, sobol, unit)
        count = len(state.given)
        if count:
            at = jnp.minimum(number, count - 1)
            unit = jnp.where((number < count)[:, None], state.given[at], unit)
        slots = _slots(state, population)
        state = state._replace(
            unit=state.unit.at[slots].set(unit),
            loss=state.loss.at[slots].set(jnp.inf),
            told=state.told.at[slots].set(False),
            asked=state.asked + population,
            free=free,
        )
        return parts.proposal(unit, note=slots), state

    def tell(
        key: Key, state: GaussianProcessState, proposal: Proposal, evaluation: Evaluation
    ) -> GaussianProcessState:
        del key
        slots, new = proposal.note, parts.told(proposal, evaluation)
        loss = parts.finite_loss(evaluation, state.unit)
        return state._replace(
            unit=state.unit.at[slots].set(proposal.unit),
            loss=state.loss.at[slots].set(jnp.where(new, loss, state.loss[slots])),
            told=state.told.at[slots].set(state.told[slots] | new),
        )

    return Strategy(init, ask, tell, parts.SCRATCH._replace(order=False), space=space)


class _Model(NamedTuple):
    """The process of a space.

    Attributes:
        kernel: over the columns of ``seen``.
        seen: ``f[M, D] -> f[M, D]``: integers at one point of their cells, choices as numbers.
        numbers: the kernel's, and the noise, from unconstrained ones.
        log_prior: of the unconstrained numbers.
        start: ``f[D + 1]``, the mode of the prior.
    """

    kernel: Kernel
    seen: Callable[[chex.Array], chex.Array]
    numbers: Callable[[chex.Array], Numbers]
    log_prior: Callable[[chex.Array], chex.Array]
    start: chex.Array


def _model(dims: Sequence[Dimension]) -> _Model:
    size = len(dims)
    choice = np.array([isinstance(dim, Choice) for dim in dims])
    ordered, unordered = np.flatnonzero(~choice), np.flatnonzero(choice)
    made = []
    if len(ordered):
        made.append(kernels.matern52(ordered))
    if len(unordered):
        made.append(kernels.exponential(kernels.hamming(unordered)))
    kernel = kernels.product(*made)
    if CONST:
        base = kernel
        kernel = kernels.Kernel(lambda n, x, y: base.covariance(n, x, y) + CONST, lambda n, x: base.variance(n, x) + CONST)
    location = np.append(np.full(size, math.sqrt(2) + math.log(size) / 2), -4.0)
    scale = np.append(np.full(size, math.sqrt(3)), 1.0)

    def seen(points: chex.Array) -> chex.Array:
        points = cube.snapped(dims, points)
        for dim, columns in cube.grouped(dims).items():
            if isinstance(dim, Choice):
                index = dim.decode(points[..., columns]).astype(points.dtype)
                points = points.at[..., columns].set(index)
        return points

    def numbers(free: chex.Array) -> Numbers:
        lengths = jnp.exp(free[:-1]) + LEAST_LENGTH
        of: list = []
        if len(ordered):
            of.append(lengths[ordered])
        if len(unordered):
            of.append((lengths[unordered],))
        return Numbers(tuple(of), jnp.exp(free[-1]) + LEAST_NOISE)

    def log_prior(free: chex.Array) -> chex.Array:
        return -jnp.sum(((free - location) / scale) ** 2) / 2

    return _Model(kernel, seen, numbers, log_prior, jnp.asarray(location))


def _suggestions(
    dims: Sequence[Dimension],
    model: _Model,
    acquisition: Acquisition,
    population: int,
    capacity: int,
) -> Callable[[Key, GaussianProcessState], tuple[chex.Array, chex.Array]]:
    """``(key, state) -> (f[P, D], f[F])``: a round's points, and the numbers that were fitted."""

    def with_slots(slots: int) -> Callable[..., tuple[chex.Array, chex.Array]]:
        def suggest(
            key: Key, state: GaussianProcessState
        ) -> tuple[chex.Array, chex.Array]:
            unit, loss, told = (leaf[:slots] for leaf in (state.unit, state.loss, state.told))
            y = half_ranked(loss, told)
            data = Observations(model.seen(unit), y, told)
            starts = jnp.stack([state.free, model.start.astype(unit.dtype)])
            free = fit.mode(
                model.kernel, model.numbers, model.log_prior, starts, data, FIT_STEPS, FIT_RATE
            )
            process = gp.posterior(model.kernel, model.numbers(free), gp.extended(data, population))
            best = jnp.where(told, y, -jnp.inf).max()
            _, order = jax.lax.top_k(jnp.where(told, y, -jnp.inf), CENTRES)
            centres = unit[order]

            def one(i: chex.Array, carry: tuple) -> tuple:
                process, points = carry

                def value(points: chex.Array) -> chex.Array:
                    mean, variance = gp.predict(model.kernel, process, model.seen(points))
                    std = jnp.sqrt(jnp.maximum(variance, LEAST_STD**2))
                    there = model.seen(points)
                    known = (there[:, None] == process.data.x).all(-1) & process.data.mask
                    return jnp.where(known.any(1) & (DEDUP > 0), -jnp.inf, acquisition(mean, std, best))

                at = promising.highest(jax.random.fold_in(key, i), value, dims, centres)
                if population > 1:
                    process = gp.imagined(model.kernel, process, slots + i, model.seen(at[None])[0])
                return process, points.at[i].set(at)

            points = jnp.zeros((population, len(dims)), unit.dtype)
            _, points = jax.lax.fori_loop(0, population, one, (process, points))
            return points, free

        return suggest

    sizes = _sizes(capacity)

    def suggest(key: Key, state: GaussianProcessState) -> tuple[chex.Array, chex.Array]:
        # A process of as many slots as are in use, not of as many as there are.
        which = (lanes.highest(state.asked) > jnp.array(sizes[:-1], jnp.int32)).sum()
        return jax.lax.switch(which, [with_slots(slots) for slots in sizes], key, state)

    return suggest


def _sizes(capacity: int) -> list[int]:
    """32, 64, 128 and so on, up to the capacity."""
    sizes = [SMALLEST_SLOTS]
    while sizes[-1] < capacity:
        sizes.append(2 * sizes[-1])
    return [*sizes[:-1], capacity] if sizes[-1] > capacity else sizes


def _slots(state: GaussianProcessState, population: int) -> chex.Array:
    """``i32[P]``: the next free slots, or those of the worst losses."""
    capacity = len(state.loss)
    place = jnp.arange(capacity)
    free = place >= state.asked
    # Free ones first, in their order; then the worst; pending ones last of all.
    score = jnp.where(free, jnp.inf, jnp.where(state.told, state.loss, -jnp.inf))
    order = jnp.lexsort((place, -score))
    return order[:population].astype(jnp.int32)
