"""Families of models, each fitted as a population over all folds in one program."""

from metahpo.automl.models.boosting import boosting
from metahpo.automl.models.discriminant import discriminant
from metahpo.automl.models.family import Data, Family, Task
from metahpo.automl.models.forest import forest
from metahpo.automl.models.kernel import kernel
from metahpo.automl.models.linear import linear
from metahpo.automl.models.neighbours import neighbours
from metahpo.automl.models.network import network

DEFAULT = ("linear", "boosting", "network", "neighbours", "discriminant")
"""Those that a search is over unless it is told."""
FAMILIES = {
    family.name: family
    for family in (linear, boosting, network, neighbours, discriminant, kernel, forest)
}
"""All that there are, by name."""

__all__ = [
    "DEFAULT",
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
