"""From a task's descriptor to its hyperparameters, learned from tasks tuned before."""

from metahpo._deprecation import renamed
from metahpo.transfer.advice import advise, read_csv
from metahpo.transfer.conditioned import conditioned_portfolio
from metahpo.transfer.constant import best_on_average, greedy_portfolio
from metahpo.transfer.describe import describe
from metahpo.transfer.distribution import Distribution
from metahpo.transfer.evaluate import Evaluation, evaluate
from metahpo.transfer.experience import Experience, experience, joined
from metahpo.transfer.files import load, save
from metahpo.transfer.mapping import MappedState, mapping
from metahpo.transfer.nearest import nearest_tasks
from metahpo.transfer.network import Mapping, ensemble_init, network, predict, unit_point
from metahpo.transfer.performance_network import performance_network
from metahpo.transfer.recommender import Fitted, Recommender
from metahpo.transfer.regression import fit
from metahpo.transfer.shipped import shipped_experience
from metahpo.transfer.sources import (
    from_folders,
    from_results,
    from_surrogate,
    from_tables,
    read_pmlb,
)
from metahpo.transfer.warm_start import warm_start

__getattr__ = renamed(__name__, {"Network": "Mapping"})

__all__ = [
    "Distribution",
    "Evaluation",
    "Experience",
    "Fitted",
    "MappedState",
    "Mapping",
    "Recommender",
    "advise",
    "best_on_average",
    "conditioned_portfolio",
    "describe",
    "ensemble_init",
    "evaluate",
    "experience",
    "fit",
    "from_folders",
    "from_results",
    "from_surrogate",
    "from_tables",
    "greedy_portfolio",
    "joined",
    "load",
    "mapping",
    "nearest_tasks",
    "network",
    "performance_network",
    "predict",
    "read_csv",
    "read_pmlb",
    "save",
    "shipped_experience",
    "unit_point",
    "warm_start",
]
