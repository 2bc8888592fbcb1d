"""Successive halving."""

from metahpo.base import Strategy
from metahpo.space import Space
from metahpo.strategies.along_training import brackets, rungs


def successive_halving(
    space: Space,
    population: int,
    max_steps: int,
    *,
    min_steps: int = 1,
    eta: int = 3,
    sampler: Strategy | None = None,
) -> Strategy:
    """Trains all members a little, the best of them longer (Jamieson & Talwalkar 2016).

    A *bracket* has one round for every *rung*.  In the first all ``P`` members train for
    ``min_steps`` updates; after each rung the best ``1 / eta`` of its members go on from where they
    are until they have ``eta`` times as many updates, the last ones ``max_steps``.  So each rung
    has about as much training as any other.  Then the next bracket begins, with new members.

    A member whose loss is not finite never goes on, even if fewer remain than the next rung has
    room for; of equal losses the first ones go on.

    Run it with ``steps=strategy.needs.steps``, the most updates that it grants in a round, and a
    bracket of ``1 + log(max_steps / min_steps) / log(eta)`` rounds.

    Args:
        space: the search space.
        population: members at the beginning of a bracket, ``P``; at least ``max_steps / min_steps``
            so that one remains at its end.
        max_steps: updates of the members of the last rung: ``min_steps`` times a power of ``eta``.
        min_steps: updates of all members, at least 1.
        eta: the best of so many go on, at least 2.
        sampler: a strategy of the same population that proposes the members of a bracket and is
            told the last loss of each when it is over; uniform without one.  Its members must all
            train from scratch, as those of ``sobol``, ``shade`` or ``cma_es`` do.

    Returns:
        A Strategy.

    Raises:
        ValueError: if ``max_steps`` is not ``min_steps`` times a power of ``eta``, ``eta < 2``, the
            population is too small for a bracket, or the sampler is of another population, of
            another space, or trains on.

    Example:
        >>> import jax, metahpo as mh
        >>> strategy = successive_halving({"x": mh.Float(0.0, 1.0)}, population=9, max_steps=9)
        >>> proposal, _ = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(1)))
        >>> proposal.budget.tolist(), strategy.needs.steps
        ([1, 1, 1, 1, 1, 1, 1, 1, 1], 6)
    """
    steps, eta = rungs.fidelities(min_steps, max_steps, eta), int(eta)
    population = rungs.check_population("successive_halving", population, steps, eta)
    bracket = rungs.bracket(population, steps, eta)
    return brackets.in_turn(space, population, [bracket], sampler)
