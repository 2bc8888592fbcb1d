"""Bayesian optimisation: a model of the losses says where to look next."""

from metahpo.strategies.bayesian.tpe import TPEState, tpe

__all__ = ["TPEState", "tpe"]
