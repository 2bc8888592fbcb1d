"""Hypergradient estimators: ``(problem, steps, ...) -> Estimator``, one file each."""

from metahpo.hypergrad.clipped import clipped
from metahpo.hypergrad.es import es
from metahpo.hypergrad.first_order import first_order
from metahpo.hypergrad.forward import forward
from metahpo.hypergrad.implicit import implicit, implicit_loss
from metahpo.hypergrad.mixture import mixture
from metahpo.hypergrad.nres import nres
from metahpo.hypergrad.one_step import one_step
from metahpo.hypergrad.pes import pes
from metahpo.hypergrad.reptile import reptile
from metahpo.hypergrad.reverse import reverse
from metahpo.hypergrad.saba import saba
from metahpo.hypergrad.soba import soba
from metahpo.hypergrad.truncated import truncated

__all__ = [
    "clipped",
    "es",
    "first_order",
    "forward",
    "implicit",
    "implicit_loss",
    "mixture",
    "nres",
    "one_step",
    "pes",
    "reptile",
    "reverse",
    "saba",
    "soba",
    "truncated",
]
