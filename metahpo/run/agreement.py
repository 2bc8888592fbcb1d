"""What is given twice must agree: spaces with strategies, problems with estimators."""

from typing import Any

import jax

from metahpo import space as spaces
from metahpo.base import Estimator, Problem, Strategy


def check_same_space(strategy: Strategy, space: spaces.Space) -> None:
    """Raises ``ValueError`` if a strategy was made for another space, where it says for which."""
    if strategy.space is None:
        return
    wanted, given = described(space), described(strategy.space)
    if wanted == given:
        return
    if list(wanted) != list(given):
        difference = f"its dimensions are {list(given)}, those of the run {list(wanted)}"
    else:
        name = next(name for name in wanted if wanted[name] != given[name])
        difference = f"its {name} is {given[name]}, that of the run {wanted[name]}"
    raise ValueError(f"the strategy was made for another space: {difference}")


def described(space: spaces.Space) -> dict[str, Any]:
    """What a strategy sees of a space, and its constants."""
    leaves = zip(spaces.names(space), jax.tree.leaves(space), strict=True)
    constants = {name: leaf for name, leaf in leaves if isinstance(leaf, spaces.Constant)}
    return spaces.dimensions(space) | constants


def check_room(strategy: Strategy, rounds: int | None) -> None:
    """Raises ``ValueError`` if a strategy has no room for what so many rounds tell it."""
    most = strategy.needs.rounds
    if rounds is not None and most is not None and rounds > most:
        raise ValueError(
            f"the strategy has room for {most} rounds, the run makes {rounds}: give the strategy a "
            "larger capacity"
        )


def check_same_problem(problem: Problem, estimator: Estimator, steps: int | None = None) -> None:
    """Raises ``ValueError`` if an estimator was made for another problem, or other trainings.

    Problems that the same code made are taken for one: what differs within cannot be seen.
    """
    made_for = problem if estimator.problem is None else estimator.problem
    differ = [
        name
        for name in ("init", "step", "loss")
        if _code(getattr(problem, name)) != _code(getattr(made_for, name))
    ]
    if differ:
        raise ValueError(
            "the estimator was made for another problem than the run's: their "
            f"{', '.join(differ)} differ"
        )
    if steps is not None and estimator.steps not in (None, steps):
        raise ValueError(
            f"the estimator goes through trainings of {estimator.steps} updates, the run through "
            f"trainings of {steps}"
        )


def _code(function: Any) -> Any:
    return getattr(function, "__code__", type(function))
