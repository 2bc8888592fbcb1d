"""Families of models, each fitted as a population over all folds in one program."""

from metahpo.automl.models.boosting import boosting
from metahpo.automl.models.discriminant import discriminant
from metahpo.automl.models.family import Data, Family, Task
from metahpo.automl.models.forest import forest
from metahpo.automl.models.kernel import kernel
from metahpo.automl.models.linear import linear
from metahpo.automl.models.neighbours import neighbours
from metahpo.automl.models.network import network

FAMILIES = {
    family.name: family
    for family in (linear, boosting, network, kernel, forest, neighbours, discriminant)
}
"""All that there are, by name."""

__all__ = [
    "FAMILIES",
    "Data",
    "Family",
    "Task",
    "boosting",
    "discriminant",
    "forest",
    "kernel",
    "linear",
    "neighbours",
    "network",
]
