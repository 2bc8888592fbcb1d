"""Learned update rules and rates; each is, or makes, an optax.GradientTransformation."""

from metahpo.learned_optimizers.hypergradient_descent import (
    HypergradientDescentState,
    hypergradient_descent,
)
from metahpo.learned_optimizers.per_parameter_mlp import (
    RuleState,
    RuleWeights,
    UpdateRule,
    per_parameter_mlp,
)

__all__ = [
    "HypergradientDescentState",
    "RuleState",
    "RuleWeights",
    "UpdateRule",
    "hypergradient_descent",
    "per_parameter_mlp",
]
