"""Bayesian optimisation: a model of the losses says where to look next."""

from metahpo.strategies.bayesian.gaussian_process import GaussianProcessState, gaussian_process
from metahpo.strategies.bayesian.tpe import TPEState, tpe

__all__ = ["GaussianProcessState", "TPEState", "gaussian_process", "tpe"]
