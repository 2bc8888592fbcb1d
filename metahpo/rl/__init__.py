"""Reinforcement learning: hyperparameter adjustment as a process, policies, policy gradients."""

from metahpo.rl.environment import Environment
from metahpo.rl.policy import Policy, softmax_policy
from metahpo.rl.reinforce import reinforce
from metahpo.rl.tuner import policy_problem
from metahpo.rl.tuning import TuningState, tuning_environment

__all__ = [
    "Environment",
    "Policy",
    "TuningState",
    "policy_problem",
    "reinforce",
    "softmax_policy",
    "tuning_environment",
]
