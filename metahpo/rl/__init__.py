"""Reinforcement learning: processes, hyperparameter adjustment among them, policies, agents."""

from metahpo.rl.agents import (
    Score,
    a2c,
    dqn,
    expected_sarsa,
    ppo,
    q_learning,
    reinforce,
    sarsa,
)
from metahpo.rl.enumeration import Enumeration, enumeration
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.exact import (
    Exact,
    chebyshev,
    frozen_lake,
    leading_ones,
    luby,
    one_max,
    sigmoid,
    testbed,
)
from metahpo.rl.exploration import epsilon_greedy, gaussian_noise, softmax, upper_confidence
from metahpo.rl.gaussian_policy import gaussian_policy
from metahpo.rl.history import with_history
from metahpo.rl.optimizing import OptimizationState, optimizer_environment
from metahpo.rl.policy import Policy, softmax_policy
from metahpo.rl.problem import Played, problem
from metahpo.rl.returns import discounted_returns, gae, n_step_returns, td_errors
from metahpo.rl.rollout import Trajectory, episode, first_episode, rollout
from metahpo.rl.space_values import flat_size, flatten
from metahpo.rl.tuner import policy_problem as policy_problem  # until the next release
from metahpo.rl.tuning import TuningState, tuning_environment
from metahpo.rl.values import greedy_policy, table_policy, value_policy, with_value

__all__ = [
    "Enumeration",
    "Environment",
    "Exact",
    "OptimizationState",
    "Played",
    "Policy",
    "Score",
    "Trajectory",
    "Transition",
    "TuningState",
    "a2c",
    "chebyshev",
    "discounted_returns",
    "dqn",
    "enumeration",
    "episode",
    "epsilon_greedy",
    "expected_sarsa",
    "first_episode",
    "flat_size",
    "flatten",
    "frozen_lake",
    "gae",
    "gaussian_noise",
    "gaussian_policy",
    "greedy_policy",
    "leading_ones",
    "luby",
    "n_step_returns",
    "one_max",
    "optimizer_environment",
    "problem",
    "ppo",
    "q_learning",
    "reinforce",
    "rollout",
    "sarsa",
    "sigmoid",
    "softmax",
    "softmax_policy",
    "table_policy",
    "td_errors",
    "testbed",
    "tuning_environment",
    "upper_confidence",
    "value_policy",
    "with_history",
    "with_value",
]
