"""The comparisons by name, with their defaults."""

from typing import Any

from metahpo.comparisons import digits, digits_learned, quadratics
from metahpo.study.compare import comparison_of, powers
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
METHODS = {"digits": DIGITS, "quadratics": QUADRATICS}

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
    if name not in METHODS:
        raise ValueError(
            f"unknown comparison {name!r}; there are {', '.join(METHODS)}, "
            "and module:function of your own"
        )
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
    return comparison_of(
        digits.problem(),
        digits.SPACE,
        DIGITS,
        **settings,
        steps=digits.STEPS,
        metric=digits.test_accuracy,
        metric_label="test accuracy",
        metric_percent=True,
        loss_label="validation loss",
        reference="default",
        name="digits",
        settings=settings,
    )


def _quadratics(settings: dict[str, Any]) -> Comparison:
    return comparison_of(
        quadratics.problem(),
        quadratics.SPACE,
        QUADRATICS,
        **settings,
        steps=quadratics.STEPS,
        budgets=powers(4, settings["budget"]),
        loss_label="error ratio",
        reference="static",
        name="quadratics",
        settings=settings,
    )._replace(score_label="times the optimum", score_drawn=False, loss_log=True, loss_drawn=10.0)
