"""Meta-learners: functions ``TaskFamily -> Problem`` whose hyperparameters are meta-learned."""

from metahpo.meta.evaluate import Scores, evaluate
from metahpo.meta.learner import Learner, learner
from metahpo.meta.maml import initial_params, maml
from metahpo.meta.meta_sgd import initial_rates, meta_sgd

__all__ = [
    "Learner",
    "Scores",
    "evaluate",
    "initial_params",
    "initial_rates",
    "learner",
    "maml",
    "meta_sgd",
]
