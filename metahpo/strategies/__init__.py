"""Strategies: ``(space, population, ...) -> Strategy``, one file each."""

from metahpo.strategies.along_training.asha import ASHAState, asha
from metahpo.strategies.along_training.brackets import BracketState
from metahpo.strategies.along_training.hyperband import hyperband
from metahpo.strategies.along_training.pb2 import PB2State, pb2
from metahpo.strategies.along_training.pbt import PBTState, pbt
from metahpo.strategies.along_training.successive_halving import successive_halving
from metahpo.strategies.bayesian.gaussian_process import gaussian_process
from metahpo.strategies.bayesian.modelled import GaussianProcessState
from metahpo.strategies.bayesian.tpe import TPEState, tpe
from metahpo.strategies.bayesian.turbo import TuRBOState, turbo
from metahpo.strategies.cma.cma_es import CMAState, cma_es
from metahpo.strategies.cma.restarts import RestartState, bipop_cma_es, ipop_cma_es
from metahpo.strategies.de.differential_evolution import DEState, differential_evolution
from metahpo.strategies.de.jade import JADEState, jade
from metahpo.strategies.de.l_shade import LSHADEState, l_shade
from metahpo.strategies.de.shade import SHADEState, shade
from metahpo.strategies.genetic_algorithms import crossover, mutation, replacement, selection
from metahpo.strategies.genetic_algorithms.generational import GenerationalState, generational
from metahpo.strategies.genetic_algorithms.genetic import genetic
from metahpo.strategies.grid import GridState, grid, grid_size
from metahpo.strategies.hypergradient import HypergradientState, hypergradient
from metahpo.strategies.nes.open_es import OpenESState, open_es
from metahpo.strategies.nes.snes import SNESState, snes
from metahpo.strategies.nes.xnes import XNESState, xnes
from metahpo.strategies.random import random
from metahpo.strategies.sobol import SobolState, sobol
from metahpo.strategies.swarm.pso import PSOState, pso

__all__ = [
    "ASHAState",
    "BracketState",
    "CMAState",
    "DEState",
    "GaussianProcessState",
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
    "SobolState",
    "TPEState",
    "TuRBOState",
    "XNESState",
    "asha",
    "bipop_cma_es",
    "cma_es",
    "crossover",
    "differential_evolution",
    "gaussian_process",
    "generational",
    "genetic",
    "grid",
    "grid_size",
    "hyperband",
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
    "sobol",
    "successive_halving",
    "tpe",
    "turbo",
    "xnes",
]
