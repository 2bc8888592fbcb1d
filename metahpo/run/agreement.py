"""What is given twice must agree: spaces with strategies, problems with estimators."""

from collections.abc import Callable
from typing import Any

import jax

from metahpo import checks
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


ANY_ORDER = (
    "asha",
    "differential_evolution",
    "gaussian_process",
    "grid",
    "jade",
    "random",
    "shade",
    "sobol",
    "tpe",
    "turbo",
)
"""The strategies of this library that take losses in any order."""


def check_any_order(strategy: Strategy) -> None:
    """Raises ``ValueError`` if a strategy waits for whole rounds."""
    if strategy.needs.order:
        raise ValueError(
            "asynchronous=True needs a strategy that takes losses in any order, and "
            f"{name_of(strategy)} waits for whole rounds; these do not: {', '.join(ANY_ORDER)}"
        )


def takes_trainings(fn: Callable[..., Any], strategy: Strategy) -> bool:
    """Whether a function is called ``(hparams, steps, state)`` rather than ``(hparams)``.

    Raises:
        ValueError: if it can be called in no way that the strategy needs.
    """
    plain = _takes(fn, 1)
    if not strategy.needs.trainings or (plain and strategy.needs.steps == 1):
        checks.function("fn", fn, "(hparams) -> loss", None)
        return False
    form = "(hparams, steps, state) -> (loss, state)"
    if strategy.needs.steps > 1:
        form += f", as {name_of(strategy)} grants budgets"
    elif not _takes(fn, 3):
        form = f"(hparams) -> loss or {form}"
    checks.function("fn", fn, form, None, None, None)
    return True


def _takes(fn: Callable[..., Any], count: int) -> bool:
    try:
        checks.function("fn", fn, "", *[None] * count)
    except ValueError:
        return False
    return True


def name_of(strategy: Strategy) -> str:
    """The function that made a strategy, where that can be seen."""
    made_by = getattr(strategy.init, "__qualname__", "").partition(".")[0]
    module = getattr(strategy.init, "__module__", "") or ""
    known = module.startswith("metahpo.strategies.") and module.endswith(f".{made_by}")
    return made_by if known else "this strategy"


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
