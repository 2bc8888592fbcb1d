"""Points chosen one after the other by a Gaussian process of all that are known."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import lanes, quasirandom
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Space
from metahpo.staged import StagedAsk
from metahpo.strategies import parts
from metahpo.strategies.bayesian.suggestions import Choose, Known, Offset, Suggest, suggestions
from metahpo.surrogates import derivatives
from metahpo.surrogates.prior import Prior, of_space

SMALLEST = 64  # slots of the smallest process
DERIVATIVES = 2  # rows of derivatives, in rows of losses


class GaussianProcessState(NamedTuple):
    """What was evaluated, what waits for it, and the numbers of the process.

    Attributes:
        unit: ``f[N, D]``, points in the order of asking, as long as none is forgotten.
        loss: ``f[N]``.
        told: ``bool[N]``, whose losses are known.
        pending: ``bool[N]``, whose are not known yet.
        asked: ``i32[]``, points that were asked for.
        grad: ``f[N, D]``, of the losses on the unit cube; ``()`` if they are not used.
        free: ``f[D + 1]``, the process's numbers, unconstrained, as they were last; with gradients
            ``f[D + 2]``.
        sequence: of the first points.
        given: ``f[K, D]``, points to evaluate before those.
    """

    unit: chex.Array
    loss: chex.Array
    told: chex.Array
    pending: chex.Array
    asked: chex.Array
    grad: chex.Array | tuple
    free: chex.Array
    sequence: quasirandom.Sobol
    given: chex.Array


def modelled(
    space: Space,
    population: int,
    initial: chex.Array | None,
    choose: Choose,
    capacity: int,
    startup: int,
    length: chex.Numeric = 1.0,
    noise: chex.Numeric = 1.0,
    gradients: bool = False,
    expected: Offset | None = None,
) -> Strategy:
    """The strategy of ``gaussian_process``, by any way to choose the next point.

    Args:
        space: the search space.
        population: points a round.
        initial: ``f[K, D]``, evaluated first.
        choose: from ``suggestions.chooser``.
        capacity: as of ``gaussian_process``, and so on.
        startup: see there.
        length: see there.
        noise: see there.
        gradients: see there.
        expected: see there.
    """
    dims = list(spaces.dimensions(space).values())
    size = len(dims)
    floats = len(derivatives.floats(dims)) if gradients else 0
    published = quasirandom.directions(size)
    sizes = _sizes(capacity)

    canonical = functools.partial(spaces.canonical, space)

    def prior(steep: int) -> Prior:
        """Of a process that observes the gradients of so many points."""
        if steep:
            return derivatives.of_space(dims, steep, length, noise, canonical)
        return of_space(dims, length, noise, canonical)

    def suggesting(slots: int) -> Suggest:
        steep = floats and max(1, min(slots, DERIVATIVES * slots // floats))
        return suggestions(slots, dims, prior(steep), choose, population, steep, expected)

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
            pending=jnp.zeros(capacity, bool),
            asked=jnp.zeros((), jnp.int32),
            grad=jnp.zeros((capacity, size), dtype) if gradients else (),
            free=mode.astype(dtype),
            sequence=quasirandom.scrambled(sobol_key, published),
            given=parts.starting_points(given_key, space, count, initial).astype(dtype),
        )

    def stage(state: GaussianProcessState) -> chex.Array:
        """As few places as possible."""
        _, taken = room(state, population)
        return (lanes.highest(taken) > jnp.array(sizes[:-1], jnp.int32)).sum()

    def asked(
        suggest: Sequence[Suggest], key: Key, state: GaussianProcessState
    ) -> tuple[Proposal, GaussianProcessState]:
        number = state.asked + jnp.arange(population)
        places, _ = room(state, population)
        early = _first_points(state, number)
        # Nothing is fitted to the first points.
        which = stage(state) if len(suggest) > 1 else 0
        known = Known(state.unit, state.loss, state.told, state.pending, state.grad)
        unit, free = jax.lax.switch(
            jnp.where(lanes.highest(state.asked) < startup, 0, 1 + which),
            [lambda key, known, free: (early, free), *suggest],
            key,
            known,
            state.free,
        )
        # Other lanes may be further than this one, and less than two losses say nothing.
        first = state.asked < startup
        free = jnp.where(first, state.free, free)
        unit = jnp.where(first | (state.told.sum() < min(startup, 2)), early, unit)
        unit = jnp.where((number < len(state.given))[:, None], early, unit)
        state = state._replace(
            unit=state.unit.at[places].set(unit),
            told=state.told.at[places].set(False),
            pending=state.pending.at[places].set(True),
            asked=state.asked + population,
            free=free,
        )
        return parts.proposal(unit, note=places), state

    ask = StagedAsk(
        functools.partial(asked, suggest),
        stage,
        tuple(functools.partial(asked, [of_size]) for of_size in suggest),
    )

    def tell(
        key: Key, state: GaussianProcessState, proposal: Proposal, evaluation: Evaluation
    ) -> GaussianProcessState:
        del key
        places, new = proposal.note, parts.told(proposal, evaluation)
        # Idle slots are no evaluations: their places are free again.
        waiting = state.pending[places] & ~new & (proposal.budget > 0)
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
            pending=state.pending.at[places].set(waiting),
            grad=grad,
        )

    rounds = capacity // population
    needs = parts.SCRATCH._replace(order=False, rounds=rounds, gradients=gradients)
    return Strategy(init, ask, tell, needs, space=space)


def room(state: GaussianProcessState, population: int) -> tuple[chex.Array, chex.Array]:
    """``i32[P]``: free places, the first ones, and when all are taken those of the worst.

    And ``i32[]``, the number of places up to the last that is taken.
    """
    used, slots = state.told | state.pending, jnp.arange(len(state.told), dtype=jnp.int32)
    free = jnp.argsort(used, stable=True)[:population].astype(jnp.int32)
    _, worst = jax.lax.top_k(jnp.where(state.told, state.loss, -jnp.inf), population)
    places = jnp.where(used[free], worst.astype(jnp.int32), free)
    return places, jnp.where(used, slots + 1, 0).max()


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
