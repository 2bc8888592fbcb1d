"""Problems: training processes, and the task families that they train on."""

from metahpo.problems.quadratics import (
    Quadratic,
    chebyshev_rates,
    chebyshev_ratio,
    quadratics,
    schedule_problem,
    schedule_space,
    static_ratio,
)
from metahpo.problems.synthetic import function
from metahpo.problems.training import TrainState, training

__all__ = [
    "Quadratic",
    "TrainState",
    "chebyshev_rates",
    "chebyshev_ratio",
    "function",
    "quadratics",
    "schedule_problem",
    "schedule_space",
    "static_ratio",
    "training",
]
