"""Hypergradient estimators: ``(problem, steps, ...) -> Estimator``, one file each."""

from metahpo.hypergrad.es import es
from metahpo.hypergrad.first_order import first_order
from metahpo.hypergrad.forward import forward
from metahpo.hypergrad.implicit import implicit, implicit_loss
from metahpo.hypergrad.one_step import one_step
from metahpo.hypergrad.reptile import reptile
from metahpo.hypergrad.reverse import reverse
from metahpo.hypergrad.truncated import truncated

__all__ = [
    "es",
    "first_order",
    "forward",
    "implicit",
    "implicit_loss",
    "one_step",
    "reptile",
    "reverse",
    "truncated",
]
