"""Strategies: ``(space, population, ...) -> Strategy``, one file each."""

from metahpo.strategies.differential_evolution import DEState, differential_evolution
from metahpo.strategies.grid import GridState, grid, grid_size
from metahpo.strategies.hypergradient import HypergradientState, hypergradient
from metahpo.strategies.pbt import PBTState, pbt
from metahpo.strategies.random import random

__all__ = [
    "DEState",
    "GridState",
    "HypergradientState",
    "PBTState",
    "differential_evolution",
    "grid",
    "grid_size",
    "hypergradient",
    "pbt",
    "random",
]
