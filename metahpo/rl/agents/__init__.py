"""Agents: estimators that act, remember and learn."""

from metahpo.rl.agents.a2c import a2c
from metahpo.rl.agents.dqn import dqn
from metahpo.rl.agents.expected_sarsa import expected_sarsa
from metahpo.rl.agents.ppo import ppo
from metahpo.rl.agents.q_learning import q_learning
from metahpo.rl.agents.reinforce import reinforce
from metahpo.rl.agents.sarsa import sarsa
from metahpo.rl.agents.score import Score

__all__ = [
    "Score",
    "a2c",
    "dqn",
    "expected_sarsa",
    "ppo",
    "q_learning",
    "reinforce",
    "sarsa",
]
