"""Bayesian optimisation with a Gaussian process."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, lanes, quasirandom
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Space
from metahpo.strategies import parts
from metahpo.strategies.bayesian.suggestions import (
    STEEP_STEPS,
    STEPS,
    Known,
    Suggest,
    chooser,
    suggestions,
)
from metahpo.surrogates import acquisition as acquisitions
from metahpo.surrogates import derivatives
from metahpo.surrogates.acquisition import Acquisition
from metahpo.surrogates.prior import Prior, of_space

SMALLEST = 64  # slots of the smallest process
DERIVATIVES = 2  # rows of derivatives, in rows of losses


class GaussianProcessState(NamedTuple):
    """What was evaluated, what waits for it, and the numbers of the process.

    Attributes:
        unit: ``f[N, D]``, points in the order of asking, as long as none is forgotten.
        loss: ``f[N]``.
        told: ``bool[N]``, whose losses are known.
        asked: ``i32[]``, points that were asked for, told or pending.
        grad: ``f[N, D]``, of the losses on the unit cube; ``()`` if they are not used.
        free: ``f[D + 1]``, the process's numbers, unconstrained, as they were last; with gradients
            ``f[D + 2]``.
        sequence: of the first points.
        given: ``f[K, D]``, points to evaluate before those.
    """

    unit: chex.Array
    loss: chex.Array
    told: chex.Array
    asked: chex.Array
    grad: chex.Array | tuple
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
    gradients: bool = False,
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
            ``D + 1``, at least 4 and at most 16; with gradients a third of that, at least 3; those
            of ``initial`` count.
        length: the prior's median length scale, in units of that which is recommended; may be
            traced.
        noise: the prior's median variance of the noise, in such units too; may be traced.
        gradients: whether the process learns from hypergradients too, which the run must then have:
            ``D + 1`` numbers an evaluation instead of one (Rasmussen & Williams 2006, section 9.4),
            with an error of their own that is fitted.  Of the best points as many as fill twice the
            rows of the losses.  Integers and choices have no gradients, and what is zero in all
            coordinates counts as none.

    Returns:
        A Strategy, whose losses may be told in any order.

    Raises:
        ValueError: if a number is below 1, ``acquisition`` unknown, the capacity below the first
            points and a round, or gradients are to be used in a space without a ``Float``.

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
    if startup is None:
        # A third where an evaluation is charged as three; of two losses no scale is known.
        startup = min(max(3, (size + 1) // 3) if gradients else max(4, size + 1), 16)
    startup = checks.whole("startup", startup)
    capacity = checks.whole("capacity", capacity, at_least=startup + population)
    initial = parts.check_initial(space, capacity, initial, "capacity")
    checks.positive(length=length, noise=noise)
    if isinstance(acquisition, str):
        checks.one_of("acquisition", acquisition, [*acquisitions.BY_NAME, "thompson"])
    else:
        checks.function("acquisition", acquisition, "(mean, std, best) -> value", *range(3))
    floats = len(derivatives.floats(dims)) if gradients else 0
    if gradients and not floats:
        raise ValueError(f"gradients=True needs a Float, got {spaces.dimensions(space)}")
    published = quasirandom.directions(size)
    choose = chooser(acquisition, STEEP_STEPS if gradients else STEPS)
    sizes = _sizes(capacity)

    canonical = functools.partial(spaces.canonical, space)

    def prior(steep: int) -> Prior:
        """Of a process that observes the gradients of so many points."""
        if steep:
            return derivatives.of_space(dims, steep, length, noise, canonical)
        return of_space(dims, length, noise, canonical)

    def suggesting(slots: int) -> Suggest:
        steep = floats and max(1, min(slots, DERIVATIVES * slots // floats))
        return suggestions(slots, dims, prior(steep), choose, population, steep)

    suggest = [suggesting(slots) for slots in sizes]
    mode = prior(floats).mode

    def init(key: Key) -> GaussianProcessState:
        dtype = jnp.result_type(float)
        sobol_key, given_key = jax.random.split(key)
        count = 0 if initial is None else len(initial)
        return GaussianProcessState(
            unit=jnp.zeros((capacity, size), dtype),
            loss=jnp.full(capacity, jnp.inf, dtype),
            told=jnp.zeros(capacity, bool),
            asked=jnp.zeros((), jnp.int32),
            grad=jnp.zeros((capacity, size), dtype) if gradients else (),
            free=mode.astype(dtype),
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
        known = Known(state.unit, state.loss, state.told, state.asked, state.grad)
        unit, free = jax.lax.switch(
            jnp.where(asked < startup, 0, 1 + which),
            [lambda key, known, free: (early, free), *suggest],
            key,
            known,
            state.free,
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
        grad = state.grad
        if gradients:
            slopes = evaluation.grad.astype(loss.dtype)  # type: ignore[union-attr]
            # Nothing is known of a branch that was not chosen.
            slopes = jnp.where(spaces.active(space, proposal.unit), slopes, jnp.inf)
            slopes = jnp.where(new[:, None], slopes, grad[places])  # type: ignore[call-overload]
            grad = grad.at[places].set(slopes)  # type: ignore[union-attr]
        return state._replace(
            unit=state.unit.at[places].set(proposal.unit.astype(state.unit.dtype)),
            loss=state.loss.at[places].set(jnp.where(new, loss, state.loss[places])),
            told=state.told.at[places].set(state.told[places] | new),
            grad=grad,
        )

    rounds = capacity // population
    needs = parts.SCRATCH._replace(order=False, rounds=rounds, gradients=gradients)
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


def _sizes(capacity: int) -> list[int]:
    """64, 128, 256 and so on, up to the capacity."""
    sizes = [SMALLEST]
    while sizes[-1] < capacity:
        sizes.append(2 * sizes[-1])
    return [min(size, capacity) for size in sizes]
