"""Environments of which the value of every policy, or of the best, is known without sampling."""

from metahpo.rl.exact.chebyshev import chebyshev
from metahpo.rl.exact.frozen_lake import frozen_lake
from metahpo.rl.exact.leading_ones import leading_ones
from metahpo.rl.exact.luby import luby
from metahpo.rl.exact.one_max import one_max
from metahpo.rl.exact.record import Exact
from metahpo.rl.exact.sigmoid import sigmoid
from metahpo.rl.exact.testbed import testbed

__all__ = [
    "Exact",
    "chebyshev",
    "frozen_lake",
    "leading_ones",
    "luby",
    "one_max",
    "sigmoid",
    "testbed",
]
