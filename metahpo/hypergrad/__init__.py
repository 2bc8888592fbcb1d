"""Hypergradient estimators: ``(problem, steps, ...) -> Estimator``, one file each."""

from metahpo.hypergrad.reverse import reverse

__all__ = ["reverse"]
