"""Meta-learners: functions ``TaskFamily -> Problem`` whose hyperparameters are meta-learned."""

from metahpo.meta.maml import initial_params, maml
from metahpo.meta.meta_sgd import initial_rates, meta_sgd

__all__ = ["initial_params", "initial_rates", "maml", "meta_sgd"]
