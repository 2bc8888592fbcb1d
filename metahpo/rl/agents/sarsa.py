"""SARSA: values of what the agent really does next."""

import chex

from metahpo.base import Estimator
from metahpo.rl.agents.tabular import described, temporal_differences
from metahpo.rl.environment import Environment
from metahpo.rl.exploration import Explore, Rate


@described
def sarsa(
    environment: Environment,
    explore: Explore,
    *,
    discount: chex.Numeric = 0.99,
    rate: Rate = 1.0,
    steps: int = 1,
) -> Estimator:
    """The next action is what is expected of the next state (Rummery & Niranjan 1994)."""
    return temporal_differences(
        environment,
        lambda values, chances, action: values[action],
        explore,
        discount,
        rate,
        steps,
        ahead=True,
    )
