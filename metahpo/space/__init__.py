"""Search spaces: any pytree whose leaves are ``Float``, ``Int`` or ``Choice``.

A space alone knows bounds, scales, integers and choices.  Strategies see points ``u`` of the unit
cube ``[0, 1]^D``: one coordinate per leaf in the order of ``jax.tree.leaves``, or one for each
entry of a leaf that has a ``shape``.  ``decode`` turns a point into hyperparameters and ``encode``
turns hyperparameters into a point.  All functions but ``check`` and ``readable`` may be jitted and
vmapped.

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
from metahpo.space.coordinates import dimensions, is_continuous, size, thresholds
from metahpo.space.decoding import decode, pullback, sample
from metahpo.space.encoding import check, encode
from metahpo.space.numbers import Float, Int
from metahpo.space.reading import decoder, readable
from metahpo.space.tree import Dimension, names
from metahpo.space.tree import Space as Space

__all__ = [
    "MOST_CELLS",
    "Choice",
    "Dimension",
    "Float",
    "Int",
    "check",
    "decode",
    "decoder",
    "dimensions",
    "encode",
    "is_continuous",
    "names",
    "pullback",
    "readable",
    "sample",
    "size",
    "thresholds",
]
