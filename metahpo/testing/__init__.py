"""Checks of a strategy, an estimator or a problem of one's own: what ours must pass, too."""

from metahpo.testing.estimator import check_estimator
from metahpo.testing.problem import check_problem
from metahpo.testing.strategy import check_strategy

__all__ = ["check_estimator", "check_problem", "check_strategy"]
