"""Networks that were fitted to recorded trainings, asked instead of training again."""

from metahpo.problems.surrogate.problem import surrogate
from metahpo.problems.surrogate.yahpo import Surrogate, read_surrogate

__all__ = ["Surrogate", "read_surrogate", "surrogate"]
