"""Bayesian optimisation: a model of the losses says where to look next."""

from metahpo.strategies.bayesian.gaussian_process import GaussianProcessState, gaussian_process

__all__ = ["GaussianProcessState", "gaussian_process"]
