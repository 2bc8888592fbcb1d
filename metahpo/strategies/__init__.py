"""Strategies: ``(space, population, ...) -> Strategy``, one file each."""

from metahpo.strategies import crossover, mutation, replacement, selection
from metahpo.strategies.cma_es import CMAState, cma_es
from metahpo.strategies.cma_restarts import RestartState, bipop_cma_es, ipop_cma_es
from metahpo.strategies.differential_evolution import DEState, differential_evolution
from metahpo.strategies.generational import GenerationalState, generational
from metahpo.strategies.genetic import genetic
from metahpo.strategies.grid import GridState, grid, grid_size
from metahpo.strategies.hypergradient import HypergradientState, hypergradient
from metahpo.strategies.jade import JADEState, jade
from metahpo.strategies.l_shade import LSHADEState, l_shade
from metahpo.strategies.open_es import OpenESState, open_es
from metahpo.strategies.pb2 import PB2State, pb2
from metahpo.strategies.pbt import PBTState, pbt
from metahpo.strategies.pso import PSOState, pso
from metahpo.strategies.random import random
from metahpo.strategies.shade import SHADEState, shade
from metahpo.strategies.snes import SNESState, snes
from metahpo.strategies.xnes import XNESState, xnes

__all__ = [
    "CMAState",
    "DEState",
    "GenerationalState",
    "GridState",
    "HypergradientState",
    "JADEState",
    "LSHADEState",
    "OpenESState",
    "PB2State",
    "PBTState",
    "PSOState",
    "RestartState",
    "SHADEState",
    "SNESState",
    "XNESState",
    "bipop_cma_es",
    "cma_es",
    "crossover",
    "differential_evolution",
    "generational",
    "genetic",
    "grid",
    "grid_size",
    "hypergradient",
    "ipop_cma_es",
    "jade",
    "l_shade",
    "mutation",
    "open_es",
    "pb2",
    "pbt",
    "pso",
    "random",
    "replacement",
    "selection",
    "shade",
    "snes",
    "xnes",
]
