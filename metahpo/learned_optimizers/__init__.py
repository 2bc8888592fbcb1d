"""Learned update rules; with their weights given, each is an optax.GradientTransformation."""

from metahpo.learned_optimizers.per_parameter_mlp import (
    RuleState,
    RuleWeights,
    UpdateRule,
    per_parameter_mlp,
)

__all__ = ["RuleState", "RuleWeights", "UpdateRule", "per_parameter_mlp"]
