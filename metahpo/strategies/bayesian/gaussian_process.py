"""Bayesian optimisation with a Gaussian process."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, lanes, quasirandom
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Dimension, Space
from metahpo.strategies import parts
from metahpo.surrogates import acquisition as acquisitions
from metahpo.surrogates import fit, promising
from metahpo.surrogates import gaussian_process as gp
from metahpo.surrogates.acquisition import Acquisition
from metahpo.surrogates.gaussian_process import Observations
from metahpo.surrogates.prior import Prior, of_space
from metahpo.surrogates.warping import compressed

SMALLEST = 64  # slots of the smallest process
FIT_STEPS = 16
CENTRES = 3  # of the best so far
LEAST_STD = 1e-6
SAME = 1 - 1e-4  # correlation of points that are as good as one


class GaussianProcessState(NamedTuple):
    """What was evaluated, what waits for it, and the numbers of the process.

    Attributes:
        unit: ``f[N, D]``, points in the order of asking, as long as none is forgotten.
        loss: ``f[N]``.
        told: ``bool[N]``, whose losses are known.
        asked: ``i32[]``, points that were asked for, told or pending.
        free: ``f[D + 1]``, the process's numbers, unconstrained, as they were last.
        sequence: of the first points.
        given: ``f[K, D]``, points to evaluate before those.
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
    startup: int | None = None,
    length: chex.Numeric = 1.0,
    noise: chex.Numeric = 1.0,
) -> Strategy:
    """Bayesian optimisation: a Gaussian process says where the next point promises most.

    Matern's kernel of order 5/2 with a length scale for every float and integer, and for every
    choice a penalty for being another (branches of a ``OneOf`` that are not chosen are seen in the
    middle of their range), under priors that need no tuning (``surrogates.prior``);
    losses by ``surrogates.warping.compressed``.  The numbers are fitted anew in every round by a
    fixed number of gradient steps.  The points of a round are chosen one after the other, each as
    if what is predicted at those before, and at pending ones, had been observed (Desautels, Krause
    & Burdick 2014).  What was evaluated, or is as good as that, is not
    proposed again, as long as there is something else.

    Args:
        space: the search space.
        population: points a round, ``P``.
        initial: evaluated first: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``; may be traced.
        acquisition: ``"log_ei"``, ``"ei"``, ``"pi"``, ``"ucb"``, ``"thompson"``, or a function
            ``(mean f[M], std f[M], best f[]) -> f[M]`` as in ``surrogates.acquisition``.
        capacity: evaluations that are remembered; a run of known length may not make more, and one
            that goes on nevertheless forgets the worst.  A suggestion costs what a process of the
            next power of two costs, from 64 on.
        startup: points of a scrambled Sobol sequence before the first of the process, by default
            ``D + 1``, at least 4 and at most 16; those of ``initial`` count.
        length: the prior's median length scale, in units of that which is recommended; may be
            traced.
        noise: the prior's median variance of the noise, in such units too; may be traced.

    Returns:
        A Strategy, whose losses may be told in any order.

    Raises:
        ValueError: if a number is below 1, ``acquisition`` unknown, or the capacity below the first
            points and a round.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 2.0)}
        >>> strategy = mh.strategies.gaussian_process(space, capacity=64)
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
    startup = min(max(4, size + 1), 16) if startup is None else checks.whole("startup", startup)
    capacity = checks.whole("capacity", capacity, at_least=startup + population)
    initial = parts.check_initial(space, capacity, initial, "capacity")
    checks.positive(length=length, noise=noise)
    if isinstance(acquisition, str):
        checks.one_of("acquisition", acquisition, [*acquisitions.BY_NAME, "thompson"])
    else:
        checks.function("acquisition", acquisition, "(mean, std, best) -> value", *range(3))
    prior = of_space(dims, length, noise, functools.partial(spaces.canonical, space))
    published = quasirandom.directions(size)
    choose = _chooser(acquisition)
    sizes = _sizes(capacity)
    suggestions = [_suggestions(slots, dims, prior, choose, population) for slots in sizes]

    def init(key: Key) -> GaussianProcessState:
        dtype = jnp.result_type(float)
        sobol_key, given_key = jax.random.split(key)
        count = 0 if initial is None else len(initial)
        return GaussianProcessState(
            unit=jnp.zeros((capacity, size), dtype),
            loss=jnp.full(capacity, jnp.inf, dtype),
            told=jnp.zeros(capacity, bool),
            asked=jnp.zeros((), jnp.int32),
            free=prior.mode.astype(dtype),
            sequence=quasirandom.scrambled(sobol_key, published),
            given=parts.starting_points(given_key, space, count, initial).astype(dtype),
        )

    def ask(key: Key, state: GaussianProcessState) -> tuple[Proposal, GaussianProcessState]:
        number = state.asked + jnp.arange(population)
        places = _places(state, number)
        early = _first_points(state, number)
        # Nothing is fitted to the first points, and as few places as possible to all others.
        asked = lanes.highest(state.asked)
        which = (asked > jnp.array(sizes[:-1], jnp.int32)).sum()
        unit, free = jax.lax.switch(
            jnp.where(asked < startup, 0, 1 + which),
            [lambda key, state: (early, state.free), *suggestions],
            key,
            state,
        )
        # Less than two losses say nothing.
        unit = jnp.where(state.told.sum() < min(startup, 2), early, unit)
        unit = jnp.where((number < len(state.given))[:, None], early, unit)
        state = state._replace(
            unit=state.unit.at[places].set(unit),
            told=state.told.at[places].set(False),
            asked=state.asked + population,
            free=free,
        )
        return parts.proposal(unit, note=places), state

    def tell(
        key: Key, state: GaussianProcessState, proposal: Proposal, evaluation: Evaluation
    ) -> GaussianProcessState:
        del key
        places, new = proposal.note, parts.told(proposal, evaluation)
        loss = parts.finite_loss(evaluation, state.unit)
        return state._replace(
            unit=state.unit.at[places].set(proposal.unit.astype(state.unit.dtype)),
            loss=state.loss.at[places].set(jnp.where(new, loss, state.loss[places])),
            told=state.told.at[places].set(state.told[places] | new),
        )

    needs = parts.SCRATCH._replace(order=False, rounds=capacity // population)
    return Strategy(init, ask, tell, needs, space=space)


def _places(state: GaussianProcessState, number: chex.Array) -> chex.Array:
    """``i32[P]``: where points are remembered; when all places are taken, those of the worst."""
    _, worst = jax.lax.top_k(jnp.where(state.told, state.loss, -jnp.inf), len(number))
    return jnp.where(number < len(state.loss), number, worst.astype(number.dtype))


def _first_points(state: GaussianProcessState, number: chex.Array) -> chex.Array:
    """``f[P, D]``: the points that were given, and those of the sequence."""
    drawn = quasirandom.points(state.sequence, state.asked, len(number))
    unit = quasirandom.as_fractions(drawn).astype(state.unit.dtype)
    count = len(state.given)
    if not count:
        return unit
    given = state.given[jnp.minimum(number, count - 1)]
    return jnp.where((number < count)[:, None], given, unit)


class _Model(NamedTuple):
    """What is known when a point is chosen.

    Attributes:
        prior: of the process.
        process: conditioned on losses, pending points and the points of this round so far.
        best: ``f[]``, the highest that was observed.
        dims: of the coordinates.
        centres: ``f[C, D]``, the best points.
    """

    prior: Prior
    process: gp.Posterior
    best: chex.Array
    dims: Sequence[Dimension]
    centres: chex.Array

    def unless_known(self, seen: chex.Array, value: chex.Array) -> chex.Array:
        """``-inf`` for points of which nothing can be learned: as good as evaluated, or pending.

        Noise makes a process expect something of the same point again and again.
        """
        kernel, data = self.prior.kernel, self.process.data
        same = kernel.covariance(self.process.numbers.kernel, seen, data.x) > SAME
        return jnp.where((same & data.mask).any(1), -jnp.inf, value)


Choose = Callable[[Key, _Model], chex.Array]


def _chooser(acquisition: str | Acquisition) -> Choose:
    if not isinstance(acquisition, str):
        return _most_promising(acquisition)
    if acquisition == "thompson":
        return _sampled
    return _most_promising(acquisitions.BY_NAME[acquisition])


def _most_promising(acquisition: Acquisition) -> Choose:
    """The point at which ``acquisition`` is highest."""

    def choose(key: Key, model: _Model) -> chex.Array:
        def value(points: chex.Array) -> chex.Array:
            seen = model.prior.seen(points)
            mean, variance = gp.predict(model.prior.kernel, model.process, seen)
            std = jnp.sqrt(jnp.maximum(variance, LEAST_STD**2))
            return model.unless_known(seen, acquisition(mean, std, model.best))

        return promising.highest(key, value, model.dims, model.centres)

    return choose


def _sampled(key: Key, model: _Model) -> chex.Array:
    """The best of many candidates in one sample of the process (Thompson 1933)."""
    points_key, sample_key = jax.random.split(key)
    points = promising.candidates(points_key, model.dims, model.centres)
    seen = model.prior.seen(points)
    sample = gp.sample(sample_key, model.prior.kernel, model.process, seen)
    return points[jnp.argmax(model.unless_known(seen, sample))]


def _suggestions(
    slots: int, dims: Sequence[Dimension], prior: Prior, choose: Choose, population: int
) -> Callable[[Key, GaussianProcessState], tuple[chex.Array, chex.Array]]:
    """``(key, state) -> (f[P, D], f[D + 1])``: a round's points, and the numbers of the process."""

    def suggest(key: Key, state: GaussianProcessState) -> tuple[chex.Array, chex.Array]:
        unit, loss, told = (leaf[:slots] for leaf in (state.unit, state.loss, state.told))
        y = compressed(loss, told)
        data = Observations(prior.seen(unit), y, told)
        starts = jnp.stack([state.free, prior.mode.astype(unit.dtype)])
        free = fit.mode(prior.kernel, prior.numbers, prior.log_density, starts, data, FIT_STEPS)
        numbers = prior.numbers(free)
        process = gp.posterior(prior.kernel, numbers, data)
        # Pending points, too, are as if what is predicted there had been observed.
        asked = jnp.arange(slots) < state.asked
        mean, _ = gp.predict(prior.kernel, process, data.x)
        data = Observations(data.x, jnp.where(told, y, mean), asked)
        process = gp.posterior(prior.kernel, numbers, gp.extended(data, population))
        known = jnp.where(told, y, -jnp.inf)
        _, order = jax.lax.top_k(known, CENTRES)
        model = _Model(prior, process, known.max(), dims, unit[order])

        def one(process: gp.Posterior, i: chex.Array) -> tuple[gp.Posterior, chex.Array]:
            point = choose(jax.random.fold_in(key, i), model._replace(process=process))
            seen = prior.seen(point[None])[0]
            return gp.imagined(prior.kernel, process, slots + i, seen), point

        _, points = jax.lax.scan(one, process, jnp.arange(population))
        return points, free

    return suggest


def _sizes(capacity: int) -> list[int]:
    """64, 128, 256 and so on, up to the capacity."""
    sizes = [SMALLEST]
    while sizes[-1] < capacity:
        sizes.append(2 * sizes[-1])
    return [min(size, capacity) for size in sizes]
