"""The comparisons by name, with their defaults."""

from typing import Any

from metahpo.compare import digits, digits_learned, quadratics
from metahpo.study.comparison import Comparison

DIGITS = {
    "default": digits.default,
    "random": digits.random,
    "grid": digits.grid,
    "differential_evolution": digits.differential_evolution,
    "pbt": digits.pbt,
    "hypergradient": digits.hypergradient,
    "policy": digits_learned.policy,
    "learned_optimizer": digits_learned.learned_optimizer,
    "mapping": digits_learned.mapping,
    "mapping_regression": digits_learned.mapping_regression,
    "mapping_differential_evolution": digits_learned.mapping_differential_evolution,
}
QUADRATICS = {
    "static": quadratics.static,
    "chebyshev": quadratics.chebyshev,
    "random": quadratics.random,
    "differential_evolution": quadratics.differential_evolution,
    "pbt": quadratics.pbt,
    "hypergradient": quadratics.hypergradient,
    "hypergradient_forward": quadratics.hypergradient_forward,
    "hypergradient_es": quadratics.hypergradient_es,
    "hypergradient_first_order": quadratics.hypergradient_first_order,
    "policy": quadratics.policy,
    "learned_optimizer": quadratics.learned_optimizer,
}
NAMES = ("digits", "quadratics")

# Sizes by comparison; a trial run also puts little into learning on other tasks.
USUAL = {
    "digits": {"tasks": 24, "seeds": 3, "budget": 32},
    "quadratics": {"seeds": 5, "budget": 4**7},
}
QUICK = {
    "digits": {"tasks": 2, "seeds": 1, "budget": 4, "effort": 0.05},
    "quadratics": {"seeds": 1, "budget": 4**3, "effort": 0.05},
}


def comparison(
    name: str,
    tasks: int | None,
    seeds: int | None,
    budget: int | None,
    seed: int,
    quick: bool = False,
) -> Comparison:
    """A comparison by name; ``None`` takes its own default, that of a trial run if ``quick``.

    Raises:
        ValueError: for an unknown name, or a number below 1.
    """
    if name not in NAMES:
        raise ValueError(f"unknown comparison {name!r}; there are {', '.join(NAMES)}")
    for what, number in (("tasks", tasks), ("seeds", seeds), ("budget", budget)):
        if number is not None and number < 1:
            raise ValueError(f"{what} must be at least 1, got {number}")
    if name == "quadratics" and tasks not in (None, 1):
        raise ValueError(f"quadratics has one task, its worst case over all starts; got {tasks}")
    usual = (QUICK if quick else USUAL)[name]
    asked = {"tasks": tasks, "seeds": seeds, "budget": budget}
    settings = {size: asked.get(size) or value for size, value in usual.items()} | {"seed": seed}
    return (_digits if name == "digits" else _quadratics)(settings)


def _digits(settings: dict[str, Any]) -> Comparison:
    return Comparison(
        name="digits",
        methods=DIGITS,
        setting=digits.setting(**settings),
        settings=settings,
        budgets=powers(2, settings["budget"]),
        loss_label="validation loss",
        score_label="test accuracy",
        reference="default",
        score_percent=True,
    )


def _quadratics(settings: dict[str, Any]) -> Comparison:
    return Comparison(
        name="quadratics",
        methods=QUADRATICS,
        setting=quadratics.setting(**settings),
        settings=settings,
        budgets=powers(4, settings["budget"]),
        loss_label="error ratio",
        score_label="times the optimum",
        reference="static",
        loss_log=True,
        loss_drawn=10.0,
    )


def powers(base: int, budget: int) -> list[int]:
    """1, base, base**2, ... up to the budget, and the budget itself."""
    budgets = [1]
    while budgets[-1] * base <= budget:
        budgets.append(budgets[-1] * base)
    return budgets if budgets[-1] == budget else [*budgets, budget]
