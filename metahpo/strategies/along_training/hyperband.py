"""Hyperband."""

from metahpo.base import Strategy
from metahpo.space import Space
from metahpo.strategies.along_training import brackets, rungs
from metahpo.strategies.along_training.rungs import Bracket


def hyperband(
    space: Space,
    population: int,
    max_steps: int,
    *,
    min_steps: int = 1,
    eta: int = 3,
    sampler: Strategy | None = None,
) -> Strategy:
    """Brackets of successive halving, from bold to careful (Li et al. 2018, algorithm 1).

    How soon a bad member shows is not known beforehand.  So the first bracket begins with many
    members that train for ``min_steps`` updates, each further one with fewer that train ``eta``
    times as long, and the last one trains a few members for ``max_steps`` at once.  Then all begins
    again.  Each bracket has about as much training as any other.

    With ``s_max = log(max_steps / min_steps) / log(eta)``, bracket ``s`` begins with
    ``ceil((s_max + 1) / (s + 1) * eta^s)`` members, the formula of algorithm 1, and rung ``i`` of
    it has ``floor(n / eta^i)``: for 81 steps and ``eta = 3`` the brackets begin with 81, 34, 15, 8
    and 5.  The paper's table of this example has 81, 27, 9, 6 and 5, which the formula does not
    give.  A population larger than ``eta^s_max`` multiplies these numbers by ``P / eta^s_max``
    before they are rounded.

    What is true of the members of ``successive_halving`` is true of these.  Run it with
    ``steps=strategy.needs.steps``; all brackets together have ``(s_max + 1) (s_max + 2) / 2``
    rounds.

    Args:
        space: the search space.
        population: members of the largest bracket, ``P``, at least ``max_steps / min_steps``.
        max_steps: updates of the members of a last rung: ``min_steps`` times a power of ``eta``.
        min_steps: the fewest updates of a member, at least 1.
        eta: the best of so many go on, at least 2.
        sampler: a strategy of the same population that proposes the members of a bracket and is
            told the last loss of each when it is over; uniform without one.  Those that a smaller
            bracket has no room for are idle slots to it.  BOHB (Falkner et al. 2018) is Hyperband
            with ``tpe``.

    Returns:
        A Strategy.

    Raises:
        ValueError: if ``max_steps`` is not ``min_steps`` times a power of ``eta``, ``eta < 2``, the
            population is too small for the largest bracket, or the sampler is of another
            population, of another space, or trains on.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(0.0, 1.0)}
        >>> strategy = hyperband(space, population=9, max_steps=9)
        >>> problem = mh.problems.function(lambda h: (h["x"] - 0.3) ** 2)
        >>> result = mh.search(
        ...     jax.random.key(0), problem, space, strategy, rounds=6, steps=strategy.needs.steps
        ... )
        >>> (result.history.budget > 0).sum(axis=1).tolist()
        [9, 3, 1, 5, 1, 3]
    """
    steps, eta = rungs.fidelities(min_steps, max_steps, eta), int(eta)
    population = rungs.check_population("hyperband", population, steps, eta)
    return brackets.in_turn(space, population, schedule(population, steps, eta), sampler)


def schedule(population: int, steps: list[int], eta: int) -> list[Bracket]:
    """All brackets, the largest first.

    Args:
        population: members of the largest one.
        steps: from ``rungs.fidelities``.
        eta: the best of so many go on.

    Example:
        >>> [bracket[0] for bracket in schedule(9, [1, 3, 9], eta=3)]
        [Rung(members=9, steps=1, granted=1), Rung(members=5, steps=3, granted=3), \
Rung(members=3, steps=9, granted=9)]
    """
    most = len(steps) - 1
    return [
        rungs.bracket(
            _ceil(population * (most + 1), (s + 1) * eta ** (most - s)), steps[most - s :], eta
        )
        for s in range(most, -1, -1)
    ]


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
