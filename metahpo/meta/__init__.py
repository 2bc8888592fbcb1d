"""Meta-learners: functions ``TaskFamily -> Problem`` whose hyperparameters are meta-learned."""

from metahpo.meta.anil import anil
from metahpo.meta.attentive_neural_process import attentive_neural_process
from metahpo.meta.cavia import cavia
from metahpo.meta.conditioning import Conditioned, concatenated, film
from metahpo.meta.evaluate import Scores, adaptation_curve, evaluate
from metahpo.meta.gradients import clipped_gradient, constant_gradient
from metahpo.meta.imaml import imaml, proximal_loss
from metahpo.meta.learner import Learner, learner
from metahpo.meta.logistic_head import logistic_head
from metahpo.meta.maml import initial_params, maml
from metahpo.meta.maml_plus_plus import maml_plus_plus
from metahpo.meta.matching import matching
from metahpo.meta.meta_sgd import initial_rates, meta_sgd
from metahpo.meta.neural_process import Gaussian, gaussian, neural_process
from metahpo.meta.partial_adaptation import PartState
from metahpo.meta.prototypical import prototypical
from metahpo.meta.relation import relation
from metahpo.meta.ridge_head import ridge_head
from metahpo.meta.snail import snail
from metahpo.meta.step_sizes import bounded_rate, step_weights, unbounded_rate
from metahpo.meta.task_heads import task_heads

__all__ = [
    "Conditioned",
    "Gaussian",
    "Learner",
    "PartState",
    "Scores",
    "adaptation_curve",
    "anil",
    "attentive_neural_process",
    "bounded_rate",
    "cavia",
    "clipped_gradient",
    "concatenated",
    "constant_gradient",
    "evaluate",
    "film",
    "gaussian",
    "imaml",
    "initial_params",
    "initial_rates",
    "learner",
    "logistic_head",
    "maml",
    "maml_plus_plus",
    "matching",
    "meta_sgd",
    "neural_process",
    "prototypical",
    "proximal_loss",
    "relation",
    "ridge_head",
    "snail",
    "step_weights",
    "task_heads",
    "unbounded_rate",
]
