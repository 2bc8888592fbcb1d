"""Bayesian optimisation: a model of the losses says where to look next."""

from metahpo.strategies.bayesian.gaussian_process import gaussian_process
from metahpo.strategies.bayesian.modelled import GaussianProcessState
from metahpo.strategies.bayesian.tpe import TPEState, tpe
from metahpo.strategies.bayesian.turbo import TuRBOState, turbo

__all__ = ["GaussianProcessState", "TPEState", "TuRBOState", "gaussian_process", "tpe", "turbo"]
