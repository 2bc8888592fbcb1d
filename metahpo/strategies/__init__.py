"""Strategies: ``(space, population, ...) -> Strategy``, one file each."""

from metahpo.strategies.differential_evolution import DEState, differential_evolution
from metahpo.strategies.grid import GridState, grid, grid_size
from metahpo.strategies.hypergradient import HypergradientState, hypergradient
from metahpo.strategies.jade import JADEState, jade
from metahpo.strategies.open_es import OpenESState, open_es
from metahpo.strategies.pbt import PBTState, pbt
from metahpo.strategies.random import random
from metahpo.strategies.snes import SNESState, snes
from metahpo.strategies.xnes import XNESState, xnes

__all__ = [
    "DEState",
    "GridState",
    "HypergradientState",
    "JADEState",
    "OpenESState",
    "PBTState",
    "SNESState",
    "XNESState",
    "differential_evolution",
    "grid",
    "grid_size",
    "hypergradient",
    "jade",
    "open_es",
    "pbt",
    "random",
    "snes",
    "xnes",
]
