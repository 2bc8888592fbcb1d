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
from metahpo.problems.sinusoid import Points, Sinusoid, sinusoid
from metahpo.problems.synthetic import function
from metahpo.problems.training import TrainState, training

__all__ = [
    "Points",
    "Quadratic",
    "Sinusoid",
    "TrainState",
    "chebyshev_rates",
    "chebyshev_ratio",
    "function",
    "quadratics",
    "schedule_problem",
    "schedule_space",
    "sinusoid",
    "static_ratio",
    "training",
]
