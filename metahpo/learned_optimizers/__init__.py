"""Learned update rules and rates; each is, or makes, an optax.GradientTransformation."""

from metahpo.learned_optimizers.corrected import CorrectedState, CorrectedWeights, corrected
from metahpo.learned_optimizers.curves import Curve, per_step, polynomial, spline
from metahpo.learned_optimizers.factored_mlp import FactoredWeights, factored_mlp
from metahpo.learned_optimizers.for_task import (
    TaskRule,
    TaskRuleWeights,
    Told,
    described,
    for_task,
)
from metahpo.learned_optimizers.hypergradient_descent import (
    HypergradientDescentState,
    hypergradient_descent,
)
from metahpo.learned_optimizers.learnable import LINKS, learnable, learned_numbers
from metahpo.learned_optimizers.mixture import MixtureWeights, mixture, one_hot
from metahpo.learned_optimizers.per_parameter_mlp import (
    RuleState,
    RuleWeights,
    per_parameter_mlp,
)
from metahpo.learned_optimizers.pretrained import PRETRAINED, pretrained, pretrained_weights
from metahpo.learned_optimizers.recurrent import RecurrentWeights, log_and_sign, recurrent
from metahpo.learned_optimizers.scheduled import (
    ScheduledState,
    learned_schedules,
    scheduled,
)
from metahpo.learned_optimizers.steered import SteeredWeights, steered
from metahpo.learned_optimizers.symbolic import (
    TERMS,
    SymbolicWeights,
    expression,
    expression_hparams,
    expression_space,
    formula,
    symbolic,
)
from metahpo.learned_optimizers.two_level import TwoLevelWeights, two_level
from metahpo.learned_optimizers.update_rule import TensorStates, UpdateRule, update_rule

__all__ = [
    "CorrectedState",
    "CorrectedWeights",
    "Curve",
    "FactoredWeights",
    "HypergradientDescentState",
    "LINKS",
    "MixtureWeights",
    "PRETRAINED",
    "RecurrentWeights",
    "RuleState",
    "RuleWeights",
    "ScheduledState",
    "SteeredWeights",
    "SymbolicWeights",
    "TERMS",
    "TaskRule",
    "TaskRuleWeights",
    "TensorStates",
    "Told",
    "TwoLevelWeights",
    "UpdateRule",
    "corrected",
    "described",
    "expression",
    "expression_hparams",
    "expression_space",
    "factored_mlp",
    "for_task",
    "formula",
    "hypergradient_descent",
    "learnable",
    "learned_numbers",
    "learned_schedules",
    "log_and_sign",
    "mixture",
    "one_hot",
    "per_parameter_mlp",
    "per_step",
    "polynomial",
    "pretrained",
    "pretrained_weights",
    "recurrent",
    "scheduled",
    "spline",
    "steered",
    "symbolic",
    "two_level",
    "update_rule",
]
