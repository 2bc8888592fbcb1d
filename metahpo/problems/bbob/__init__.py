"""The noiseless functions of the black-box optimisation benchmark (BBOB)."""

from metahpo.problems.bbob.instances import BBOBInstance, bbob_instance
from metahpo.problems.bbob.problem import bbob, bbob_space

__all__ = ["BBOBInstance", "bbob", "bbob_instance", "bbob_space"]
