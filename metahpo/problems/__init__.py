"""Problems: training processes, and the task families that they train on."""

from metahpo.problems.synthetic import function
from metahpo.problems.training import TrainState, training

__all__ = ["TrainState", "function", "training"]
