"""CMA-ES with restarts: IPOP and BIPOP, all runs inside one program of static shapes."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import FULL_BUDGET, Evaluation, Key, Proposal, StopReason, Strategy
from metahpo.lanes import when
from metahpo.space import Space
from metahpo.strategies import margin, parts, search_distribution
from metahpo.strategies.cma import box, categories, stopping, update
from metahpo.strategies.cma import schedule as schedules
from metahpo.strategies.cma.categories import Categorical, Choices
from metahpo.strategies.cma.schedule import Schedule
from metahpo.strategies.cma.stopping import Progress
from metahpo.strategies.cma.update import Form, Normal


class Run(NamedTuple):
    """What a restart begins anew.

    Attributes:
        normal: the search distribution of the ``N`` floats and integers.
        widened: ``f[N]``, by what the margin widens the samples; ``f[0]`` if all are floats.
        categorical: the distributions of the choices; ``None`` without any.
        progress: what the stopping criteria remember.
        schedule: population, step size and budget of this run, and what was spent before.
        filled: ``i32[]``, rounds of the generation that have been told.
        reason: ``i32[]``, the ``StopReason`` of this run.
    """

    normal: Normal
    widened: chex.Array
    categorical: Categorical | None
    progress: Progress
    schedule: Schedule
    filled: chex.Array
    reason: chex.Array


class RestartState(NamedTuple):
    """The run that goes on, the last rounds' samples, and the best point of all runs.

    The samples lie in rings of ``R`` rounds, as many as the largest generation takes.  Where a
    round is kept depends on the count of the rounds alone, which ``vmap`` over seeds does not
    batch, so keeping it costs no scatter.

    Attributes:
        run: a ``Run``.
        z: ``f[R, P, N]``, standard normal numbers.
        value: ``i32[R, P, C]``, the values of the choices; ``None`` without any.
        foreign: ``bool[R, P]``, points that were told and not proposed.
        loss: ``f[R, P]``.
        round: ``i32[]``.
        given: ``f[K, D]``, the points that the first generation contains.
        sigma0: ``f[]``, the first step size of the first run.
        best_loss: ``f[]``.
        best_unit: ``f[D]``.
        last_reason: ``i32[]``, the ``StopReason`` of the last finished run, 0 before.
    """

    run: Run
    z: chex.Array
    value: chex.Array | None
    foreign: chex.Array
    loss: chex.Array
    round: chex.Array
    given: chex.Array
    sigma0: chex.Array
    best_loss: chex.Array
    best_unit: chex.Array
    last_reason: chex.Array


def ipop_cma_es(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    sigma: chex.Numeric = 0.2,
    doublings: int = 9,
    starts: tuple[float, float] = (0.0, 1.0),
    covariance: str = "full",
    factor: str = "cholesky",
    active: bool = True,
) -> Strategy:
    """CMA-ES that restarts with twice the population (Auger & Hansen, CEC 2005).

    A run ends by the criteria of ``stopping.reason``, or after ``100 + 50 (D + 3)^2 /
    sqrt(population)`` generations.  Each begins at a uniform point, with all values of a choice
    equally probable.  A round proposes ``population`` points; a larger generation takes several
    rounds, and slots that its first round does not need are idle (budget 0).

    Args:
        space: the search space.
        population: samples of a round, and of a generation of the first run, at least 2.
        initial: members of the very first generation: hyperparameters, a list of them, or points of
            the unit cube ``f[K, D]``, ``K <= P``.  Their mean is the first mean.  May be traced.
        sigma: the first step size of a run, as a length in the unit cube.  May be traced.
        doublings: how often the population may double; the memory is ``2^doublings`` rounds.
        starts: the range, in each coordinate, of the uniform points at which runs begin.
        covariance: ``"full"`` or ``"separable"``.
        factor: of a full covariance, ``"cholesky"`` or ``"eigen"``.
        active: whether the worse half of a generation has negative weights.

    Returns:
        A Strategy that never stops.

    Raises:
        ValueError: as ``cma_es``, and for negative ``doublings`` or ``starts`` outside [0, 1].

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-5.0, 5.0, shape=(2,))}
        >>> strategy = ipop_cma_es(space, population=6, doublings=3)
        >>> rastrigin = lambda h: (h["x"] ** 2 + 10 - 10 * jnp.cos(2 * jnp.pi * h["x"])).sum()
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(rastrigin), space, strategy,
        ...     rounds=5000, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-3)
        True
    """
    options = (sigma, doublings, starts, covariance, factor, active)
    return _restarted("IPOP-CMA-ES", schedules.ipop, space, population, initial, *options)


def bipop_cma_es(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    sigma: chex.Numeric = 0.2,
    doublings: int = 9,
    starts: tuple[float, float] = (0.0, 1.0),
    covariance: str = "full",
    factor: str = "cholesky",
    active: bool = True,
) -> Strategy:
    """CMA-ES that restarts with large and with small populations in turn (Hansen, GECCO 2009).

    The large populations double.  Runs of small ones, with smaller first step sizes, get as many
    evaluations in total; see ``schedules.bipop``.  All else is as in ``ipop_cma_es``, arguments
    and errors included.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-5.0, 5.0, shape=(2,))}
        >>> strategy = bipop_cma_es(space, population=6, doublings=3)
        >>> rastrigin = lambda h: (h["x"] ** 2 + 10 - 10 * jnp.cos(2 * jnp.pi * h["x"])).sum()
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(rastrigin), space, strategy,
        ...     rounds=5000, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-3)
        True
    """
    options = (sigma, doublings, starts, covariance, factor, active)
    return _restarted("BIPOP-CMA-ES", schedules.bipop, space, population, initial, *options)


class _Fixed(NamedTuple):
    """What never changes, all of it static."""

    form: Form
    size: int
    numbers: int
    choices: Choices | None
    population: int
    found: margin.Cells | None
    starts: tuple[float, float]
    separable: bool
    active: bool


def _restarted(
    name: str,
    regime: Callable[[int, int, int], schedules.Next],
    space: Space,
    population: int,
    initial: parts.Initial | None,
    sigma: chex.Numeric,
    doublings: int,
    starts: tuple[float, float],
    covariance: str,
    factor: str,
    active: bool,
) -> Strategy:
    form = box.check(name, space, population, sigma, covariance, factor)
    initial = parts.check_initial(space, population, initial)
    population, doublings = int(population), _check_restarts(doublings, starts)
    size, rounds = spaces.size(space), 2**doublings
    choices = categories.choices(space)
    thresholds = categories.without(choices, spaces.thresholds(space))
    numbers, found = len(thresholds), margin.cells(thresholds)
    separable = covariance == "separable"
    fixed = _Fixed(form, size, numbers, choices, population, found, starts, separable, active)
    restart = _restart(fixed, regime(population, doublings, size))
    sizes = schedules.buckets(doublings)
    learners = [_generation(fixed, rows, rounds) for rows in sizes]

    def init(key: Key) -> RestartState:
        given_key, mean_key = jax.random.split(key)
        mean, given = search_distribution.start(given_key, space, population, initial)
        dtype = mean.dtype
        if not given.shape[0]:
            mean = jax.random.uniform(mean_key, (size,), dtype, *starts)
        sigma0 = jnp.asarray(sigma, dtype)
        return RestartState(
            _begun(
                fixed, categories.others(choices, mean), schedules.first(population, size, sigma0)
            ),
            jnp.zeros((rounds, population, numbers), dtype),
            None if choices is None else jnp.zeros((rounds, population, choices.size), jnp.int32),
            jnp.zeros((rounds, population), bool),
            jnp.full((rounds, population), jnp.inf, dtype),
            jnp.zeros((), jnp.int32),
            given,
            sigma0,
            jnp.full((), jnp.inf, dtype),
            mean,
            jnp.asarray(StopReason.RUNNING, jnp.int32),
        )

    def ask(key: Key, state: RestartState) -> tuple[Proposal, RestartState]:
        run = state.run
        key, choice_key = categories.keys(key, choices)
        z = jax.random.normal(key, state.z.shape[1:], state.z.dtype)
        value = categories.sample(choice_key, choices, run.categorical, population)
        first = state.round == 0
        unit, note = box.sampled(
            form, choices, run.normal, z, run.widened, value, state.given, first
        )
        # The first round of a generation takes what does not fill a whole one.
        left = (run.schedule.population - 1) % population + 1
        busy = jnp.arange(population) < jnp.where(run.filled == 0, left, population)
        budget = jnp.where(busy, FULL_BUDGET, 0).astype(jnp.int32)
        return parts.proposal(unit, note=note)._replace(budget=budget), state

    def tell(
        key: Key, state: RestartState, proposal: Proposal, evaluation: Evaluation
    ) -> RestartState:
        busy = proposal.budget > 0
        loss = jnp.where(busy, parts.finite_loss(evaluation, state.z), jnp.inf)
        run = state.run
        z, foreign = box.as_told(
            form, choices, run.normal, run.widened, proposal.note, proposal.unit
        )
        value = categories.values(choices, proposal.unit)
        z_ring = state.z.at[state.round % rounds].set(z)
        value_ring = jax.tree.map(
            lambda ring, new: ring.at[state.round % rounds].set(new), state.value, value
        )
        foreign_ring = state.foreign.at[state.round % rounds].set(foreign)
        loss_ring = state.loss.at[state.round % rounds].set(loss)
        schedule = state.run.schedule
        schedule = schedule._replace(used=schedule.used + busy.sum(dtype=jnp.int32))
        run = state.run._replace(schedule=schedule, filled=state.run.filled + 1)
        needed = -(-schedule.population // population)
        complete = run.filled >= needed
        for fewer, rows, learn in zip([0, *sizes], sizes, learners, strict=False):
            due = complete & (needed > fewer) & (needed <= rows)
            run = when(due, learn, run, z_ring, value_ring, foreign_ring, loss_ring, state.round)
        ended = run.reason != StopReason.RUNNING
        i = jnp.argmin(loss)
        better = loss[i] < state.best_loss
        return state._replace(
            run=when(ended, restart, run, key, state.sigma0),
            z=z_ring,
            value=value_ring,
            foreign=foreign_ring,
            loss=loss_ring,
            round=state.round + 1,
            best_loss=jnp.where(better, loss[i], state.best_loss),
            best_unit=jnp.where(better, proposal.unit[i], state.best_unit),
            last_reason=jnp.where(ended, run.reason, state.last_reason),
        )

    return Strategy(init, ask, tell, parts.SCRATCH._replace(budgets=True), space=space)


def _begun(fixed: _Fixed, mean: chex.Array, schedule: Schedule) -> Run:
    return Run(
        update.start(fixed.form, mean, schedule.sigma),
        jnp.ones(0 if fixed.found is None else fixed.numbers, mean.dtype),
        categories.start(fixed.choices, mean.dtype),
        stopping.begin(fixed.population, fixed.size, mean.dtype),
        schedule,
        jnp.zeros((), jnp.int32),
        jnp.asarray(StopReason.RUNNING, jnp.int32),
    )


def _restart(fixed: _Fixed, following: schedules.Next) -> Callable[..., Run]:
    """``(run, key, sigma0) -> run``: the next one, from a uniform point."""

    def restart(run: Run, key: Key, sigma0: chex.Array) -> Run:
        mean_key, schedule_key = jax.random.split(key)
        mean = jax.random.uniform(mean_key, (fixed.numbers,), sigma0.dtype, *fixed.starts)
        return _begun(fixed, mean, following(schedule_key, run.schedule, sigma0))

    return restart


def _generation(fixed: _Fixed, rows: int, rounds: int) -> Callable[..., Run]:
    """``(run, *rings, round) -> run``: a generation of up to ``rows`` rounds is told."""

    def learn(
        run: Run,
        z_ring: chex.Array,
        value_ring: chex.Array | None,
        foreign_ring: chex.Array,
        loss_ring: chex.Array,
        now: chex.Array,
    ) -> Run:
        # Newest round first, and the idle slots in the oldest one, so that what does not count
        # comes last, also after losses that are infinite themselves.
        row = jnp.arange(rows, dtype=jnp.int32)
        kept = (now - row) % rounds
        z = z_ring[kept].reshape(rows * fixed.population, fixed.numbers)
        value = jax.tree.map(lambda ring: ring[kept].reshape(-1, ring.shape[-1]), value_ring)
        loss = jnp.where((row < run.filled)[:, None], loss_ring[kept], jnp.inf).reshape(-1)
        return _told(fixed, run, z, value, foreign_ring[kept].reshape(-1), loss)

    return learn


def _told(
    fixed: _Fixed,
    run: Run,
    z: chex.Array,
    value: chex.Array | None,
    foreign: chex.Array,
    loss: chex.Array,
) -> Run:
    form, count, ranks = fixed.form, run.schedule.population, update.ranks(loss)
    constants = update.constants(
        count,
        fixed.numbers,
        slots=loss.shape[0],
        active=fixed.active,
        separable=fixed.separable,
        xp=jnp,
    )
    progress = stopping.noted(run.progress, run.normal.generation, loss, ranks, count)
    places = box.standing(form, run.normal, z, run.widened, ranks, count)
    weights = update.weighted(constants, places, foreign).astype(loss.dtype)
    normal = update.updated(form, constants, run.normal, z, weights)
    factor, covariance, failed = update.refactored(form, normal.factor, normal.covariance)
    normal = normal._replace(factor=factor, covariance=covariance)
    alpha = jnp.minimum(0.5, 1.0 / (count * (fixed.numbers or 1)))
    normal, widened = box.into_cube(form, normal, run.widened, fixed.found, alpha)
    progress = progress._replace(failed=failed)
    categorical = categories.updated(fixed.choices, run.categorical, value, weights)
    settled = categories.settled(fixed.choices, categorical)
    reason = stopping.reason(form, normal, progress, run.schedule.sigma, count, fixed.size, settled)
    spent = run.schedule.used >= run.schedule.allowed
    reason = jnp.where((reason == StopReason.RUNNING) & spent, StopReason.BUDGET, reason)
    none = jnp.zeros_like(run.filled)
    return Run(normal, widened, categorical, progress, run.schedule, none, reason.astype(jnp.int32))


def _check_restarts(doublings: int, starts: tuple[float, float]) -> int:
    doublings = checks.whole("doublings", doublings, at_least=0)
    if not 0 <= starts[0] <= starts[1] <= 1:
        raise ValueError(f"starts must be a range within [0, 1], got {starts}")
    return doublings
