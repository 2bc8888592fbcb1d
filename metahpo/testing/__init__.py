"""Checks of a strategy, an estimator, a problem or an environment of one's own, as of ours."""

from metahpo.testing.environment import check_environment
from metahpo.testing.estimator import check_estimator
from metahpo.testing.problem import check_problem
from metahpo.testing.strategy import check_strategy

__all__ = ["check_environment", "check_estimator", "check_problem", "check_strategy"]
