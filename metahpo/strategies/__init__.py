"""Strategies: ``(space, population, ...) -> Strategy``, one file each."""

from metahpo.strategies.cma_es import CMAState, cma_es
from metahpo.strategies.differential_evolution import DEState, differential_evolution
from metahpo.strategies.grid import GridState, grid, grid_size
from metahpo.strategies.hypergradient import HypergradientState, hypergradient
from metahpo.strategies.jade import JADEState, jade
from metahpo.strategies.l_shade import LSHADEState, l_shade
from metahpo.strategies.open_es import OpenESState, open_es
from metahpo.strategies.pbt import PBTState, pbt
from metahpo.strategies.random import random
from metahpo.strategies.shade import SHADEState, shade
from metahpo.strategies.snes import SNESState, snes
from metahpo.strategies.xnes import XNESState, xnes

__all__ = [
    "CMAState",
    "DEState",
    "GridState",
    "HypergradientState",
    "JADEState",
    "LSHADEState",
    "OpenESState",
    "PBTState",
    "SHADEState",
    "SNESState",
    "XNESState",
    "cma_es",
    "differential_evolution",
    "grid",
    "grid_size",
    "hypergradient",
    "jade",
    "l_shade",
    "open_es",
    "pbt",
    "random",
    "shade",
    "snes",
    "xnes",
]
