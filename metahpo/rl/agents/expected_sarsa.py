"""Expected SARSA: values of what the agent does next, on average."""

import chex

from metahpo.base import Estimator
from metahpo.rl.agents.tabular import described, temporal_differences
from metahpo.rl.environment import Environment
from metahpo.rl.exploration import Explore, Rate


@described
def expected_sarsa(
    environment: Environment,
    explore: Explore,
    *,
    discount: chex.Numeric = 0.99,
    rate: Rate = 1.0,
    steps: int = 1,
) -> Estimator:
    """The mean over the next actions is what is expected of the next (van Seijen et al. 2009)."""
    return temporal_differences(
        environment,
        lambda values, chances, action: chances @ values,
        explore,
        discount,
        rate,
        steps,
        ahead=False,
    )
