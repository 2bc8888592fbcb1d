"""Q-learning: values of the best actions, learned while trying others."""

import chex

from metahpo.base import Estimator
from metahpo.rl.agents.tabular import described, temporal_differences
from metahpo.rl.environment import Environment
from metahpo.rl.exploration import Explore, Rate


@described
def q_learning(
    environment: Environment,
    explore: Explore,
    *,
    discount: chex.Numeric = 0.99,
    rate: Rate = 1.0,
    steps: int = 1,
) -> Estimator:
    """The best action is what is expected of the next state (Watkins & Dayan 1992)."""
    return temporal_differences(
        environment,
        lambda values, chances, action: values.max(),
        explore,
        discount,
        rate,
        steps,
        ahead=False,
    )
