"""From a task's descriptor to its hyperparameters: zero-shot, with uncertainty, or warm-started."""

from metahpo._deprecation import renamed
from metahpo.transfer.mapping import MappedState, mapping
from metahpo.transfer.network import Mapping, ensemble_init, network, predict, unit_point
from metahpo.transfer.regression import fit
from metahpo.transfer.warm_start import warm_start

__getattr__ = renamed(__name__, {"Network": "Mapping"})

__all__ = [
    "MappedState",
    "Mapping",
    "ensemble_init",
    "fit",
    "mapping",
    "network",
    "predict",
    "unit_point",
    "warm_start",
]
