"""Trust region Bayesian optimisation."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks, quasirandom
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Choice, Space
from metahpo.staged import Ask, StagedAsk
from metahpo.strategies import parts
from metahpo.strategies.bayesian.modelled import GaussianProcessState, modelled
from metahpo.strategies.bayesian.region import FIRST, SMALLEST, Region, started, updated
from metahpo.strategies.bayesian.suggestions import Model, check_acquisition, chooser
from metahpo.surrogates import promising
from metahpo.surrogates.acquisition import Acquisition

SHORTEST, LONGEST = 0.005, 2.0  # length scales that are told apart, those of the paper's process


class TuRBOState(NamedTuple):
    """A region, and what is known in it.

    Attributes:
        process: what was evaluated since the region began.
        region: where to look.
        number: ``i32[]``, of regions before.
    """

    process: GaussianProcessState
    region: Region
    number: chex.Array


class Note(NamedTuple):
    """What is known of a proposal, ``[P]`` each: the process's own, and where it came from."""

    process: chex.Array
    number: chex.Array  # of the region
    chosen: chex.Array  # by the process


def turbo(
    space: Space,
    population: int = 1,
    initial: parts.Initial | None = None,
    *,
    acquisition: str | Acquisition = "thompson",
    capacity: int = 256,
    startup: int | None = None,
) -> Strategy:
    """Trust region Bayesian optimisation for 20 to 100 dimensions, TuRBO-1.

    A process over many dimensions may be uncertain nearly everywhere, so that who looks everywhere
    mostly explores.  Here the next points are chosen in a box around the best one.  Its edge
    doubles after three rounds in a row with a success, a loss that is lower than the lowest by
    a thousandth of that at least, and halves after ``max(4, D)`` evaluations in a row without one.
    In a coordinate it is the wider, the longer its length scale, and its volume is that of a cube
    of this edge.  Once the edge is below ``2^-7`` all begins again, elsewhere, and what was
    evaluated is forgotten.

    Candidates differ from the best point in 20 coordinates in the mean, or in all.  The process is
    that of ``gaussian_process``, whose prior expects longer lengths in more dimensions: with it the
    whole cube may be as good a place to look in, so compare the two.

    Args:
        space: the search space.
        population: points a round, ``P``.
        initial: evaluated first: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``; may be traced.
        acquisition: as of ``gaussian_process``; by default a sample of the process for every point.
        capacity: evaluations that are remembered, as of ``gaussian_process``.
        startup: points of a scrambled Sobol sequence at the beginning of every region, by default
            ``2 D``, but no more than half of the capacity; those of ``initial`` count.

    Returns:
        A Strategy, whose losses may be told in any order.

    Raises:
        ValueError: if a number is below 1, ``acquisition`` unknown, or the capacity below the first
            points and a round.

    Source:
        Eriksson, Pearce, Gardner, Turner & Poloczek, "Scalable global optimization via local
        Bayesian optimization", NeurIPS 2019; the numbers are those of their code.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 2.0, shape=(4,))}
        >>> strategy = mh.strategies.turbo(space, capacity=64)
        >>> problem = mh.problems.function(lambda h: ((h["x"] - 0.4) ** 2).sum())
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, problem, space, strategy, rounds=30, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 0.1)
        True
    """
    population = parts.check_population("turbo", population)
    size = spaces.size(space)
    capacity = checks.whole("capacity", capacity)
    startup = checks.whole(
        "startup", max(2, min(2 * size, capacity // 2)) if startup is None else startup
    )
    capacity = checks.whole("capacity", capacity, at_least=startup + population)
    initial = parts.check_initial(space, capacity, initial, "capacity")
    check_acquisition(acquisition)

    def within(length: chex.Numeric) -> Strategy:
        """The process that looks in a box of this edge."""

        def places(model: Model) -> promising.Where:
            return promising.within(model.dims, model.centres[0], length * stretch(model))

        choose = chooser(acquisition, places=places)
        return modelled(space, population, initial, choose, capacity, startup)

    anywhere = within(FIRST)

    def init(key: Key) -> TuRBOState:
        process = anywhere.init(key)
        return TuRBOState(process, started(process.loss.dtype), jnp.zeros((), jnp.int32))

    def asked(
        of: Callable[[StagedAsk], Ask], key: Key, state: TuRBOState
    ) -> tuple[Proposal, TuRBOState]:
        chosen = state.process.asked >= startup
        proposal, process = of(_staged(within(state.region.length)))(key, state.process)
        number, chosen = (jnp.broadcast_to(x, population) for x in (state.number, chosen))
        note = Note(proposal.note, number, chosen)
        return proposal._replace(note=note), state._replace(process=process)

    def stage(number: int) -> Ask:
        return functools.partial(asked, lambda ask: ask.stages[number])

    of_process = _staged(anywhere)
    ask = StagedAsk(
        functools.partial(asked, lambda ask: ask),
        lambda state: of_process.stage(state.process),
        tuple(stage(number) for number in range(len(of_process.stages))),
    )

    def tell(key: Key, state: TuRBOState, proposal: Proposal, evaluation: Evaluation) -> TuRBOState:
        note = proposal.note
        # What was asked for before the region began is of no use in it, and has no place.
        here = note.number == state.number
        new = parts.told(proposal, evaluation) & here
        steps = new.astype(jnp.int32)
        places = jnp.where(here, note.process, capacity)
        process = anywhere.tell(
            key,
            state.process,
            proposal._replace(note=places),
            evaluation._replace(steps=steps),
        )
        loss = parts.finite_loss(evaluation, process.loss)
        region = updated(state.region, loss, new, note.chosen, size)
        state = state._replace(process=process, region=region)
        over = region.length < SMALLEST
        return jax.tree.map(lambda new, old: jnp.where(over, new, old), begun(key, state), state)

    def begun(key: Key, state: TuRBOState) -> TuRBOState:
        """The next region, without the points that were given."""
        process = anywhere.init(key)
        first = quasirandom.points(process.sequence, 0, len(process.given))
        given = quasirandom.as_fractions(first).astype(process.given.dtype)
        process = process._replace(given=given)
        return TuRBOState(process, started(process.loss.dtype), state.number + 1)

    return Strategy(init, ask, tell, anywhere.needs, space=space)


def _staged(process: Strategy) -> StagedAsk:
    assert isinstance(process.ask, StagedAsk)
    return process.ask


def stretch(model: Model) -> chex.Array:
    """``f[D]``, of product 1: edges of the box in units of its length; choices have none.

    Beyond the cube all lengths are alike: otherwise coordinates that do not matter would take the
    volume from those that do.
    """
    ordered = np.array([not isinstance(dim, Choice) for dim in model.dims])
    log = jnp.where(ordered, jnp.log(jnp.clip(model.lengths, SHORTEST, LONGEST)), 0.0)
    return jnp.where(ordered, jnp.exp(log - log.sum() / max(ordered.sum(), 1)), 1.0)
