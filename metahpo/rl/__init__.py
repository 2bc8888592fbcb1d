"""Reinforcement learning: hyperparameter adjustment as a process, policies, policy gradients."""

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
from metahpo.rl.optimizing import OptimizationState, optimizer_environment
from metahpo.rl.policy import Policy, softmax_policy
from metahpo.rl.problem import Played, problem
from metahpo.rl.reinforce import reinforce
from metahpo.rl.returns import discounted_returns, gae, n_step_returns, td_errors
from metahpo.rl.rollout import Trajectory, episode, first_episode, rollout
from metahpo.rl.space_values import flat_size, flatten
from metahpo.rl.tuner import policy_problem as policy_problem  # until the next release
from metahpo.rl.tuning import TuningState, tuning_environment

__all__ = [
    "Environment",
    "Exact",
    "OptimizationState",
    "Played",
    "Policy",
    "Trajectory",
    "Transition",
    "TuningState",
    "chebyshev",
    "discounted_returns",
    "episode",
    "first_episode",
    "flat_size",
    "flatten",
    "frozen_lake",
    "gae",
    "leading_ones",
    "luby",
    "n_step_returns",
    "one_max",
    "optimizer_environment",
    "problem",
    "reinforce",
    "rollout",
    "sigmoid",
    "softmax_policy",
    "td_errors",
    "testbed",
    "tuning_environment",
]
