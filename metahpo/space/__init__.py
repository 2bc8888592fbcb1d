"""Search spaces: any pytree of ``Float``, ``Int``, ``Choice``, ``Constant`` and ``OneOf``.

A space alone knows bounds, scales, integers and choices.  Strategies see points ``u`` of the unit
cube ``[0, 1]^D``: one coordinate per leaf in the order of ``jax.tree.leaves``, or one for each
entry of a leaf that has a ``shape``.  ``decode`` turns a point into hyperparameters and ``encode``
turns hyperparameters into a point.  A ``Constant`` takes no coordinate.  A ``OneOf`` chooses
between sub-spaces; coordinates of all of them always exist, and ``active`` says which of a point's
mean something.  What works inside a program may be jitted and vmapped: all functions but
``check``, and ``readable``, ``by_name`` and ``chosen``, which are for the host.

Example:
    >>> import jax.numpy as jnp, metahpo as mh
    >>> space = {"lr": mh.Float(1e-4, 1.0, log=True), "width": mh.Int(4, 64)}
    >>> hparams = mh.space.decode(space, jnp.array([0.5, 0.0]))
    >>> round(float(hparams["lr"]), 4), int(hparams["width"])
    (0.01, 4)
    >>> mh.space.decode({"rates": mh.Float(0.0, 2.0, shape=(3,))}, jnp.array([0.0, 0.5, 1.0]))
    {'rates': Array([0., 1., 2.], dtype=float32)}
"""

from metahpo.space.cells import MOST_CELLS
from metahpo.space.choice import Choice
from metahpo.space.conditions import Condition, active, canonical, conditions, is_conditional
from metahpo.space.constant import Constant
from metahpo.space.coordinates import dimensions, is_continuous, size, thresholds
from metahpo.space.decoding import decode, pullback, sample
from metahpo.space.encoding import check, encode
from metahpo.space.numbers import Float, Int
from metahpo.space.one_of import Branch, OneOf, chosen
from metahpo.space.reading import decoder, readable
from metahpo.space.tree import Dimension, by_name, fits, names, path_name
from metahpo.space.tree import Space as Space

__all__ = [
    "MOST_CELLS",
    "Branch",
    "Choice",
    "Condition",
    "Constant",
    "Dimension",
    "Float",
    "Int",
    "OneOf",
    "active",
    "by_name",
    "canonical",
    "check",
    "chosen",
    "conditions",
    "decode",
    "decoder",
    "dimensions",
    "encode",
    "fits",
    "is_conditional",
    "is_continuous",
    "names",
    "path_name",
    "pullback",
    "readable",
    "sample",
    "size",
    "thresholds",
]
