"""The diagnostics of every estimator, under the name that the estimators import."""

from metahpo.diagnostics import gradient_info, no_memory

__all__ = ["gradient_info", "no_memory"]
