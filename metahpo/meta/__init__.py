"""Meta-learners: functions ``TaskFamily -> Problem`` whose hyperparameters are meta-learned."""

from metahpo.meta.evaluate import Scores, evaluate
from metahpo.meta.learner import Learner, learner
from metahpo.meta.logistic_head import logistic_head
from metahpo.meta.maml import initial_params, maml
from metahpo.meta.meta_sgd import initial_rates, meta_sgd
from metahpo.meta.prototypical import prototypical
from metahpo.meta.ridge_head import ridge_head

__all__ = [
    "Learner",
    "Scores",
    "evaluate",
    "initial_params",
    "initial_rates",
    "learner",
    "logistic_head",
    "maml",
    "meta_sgd",
    "prototypical",
    "ridge_head",
]
