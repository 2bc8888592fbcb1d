"""Hyperparameters as Python values, on the host."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from metahpo import checks
from metahpo.base import HParams, PyTree
from metahpo.space.choice import Choice
from metahpo.space.constant import Constant
from metahpo.space.coordinates import split
from metahpo.space.decoding import decode
from metahpo.space.encoding import index_of
from metahpo.space.numbers import Float, Int
from metahpo.space.one_of import chosen
from metahpo.space.tree import Dimension, Leaf, Missing, Space, flatten, match


def decoder(space: Space) -> Callable[[Any], list[HParams]]:
    """``(unit f[P, D]) -> P`` times the hyperparameters as ``readable`` gives them.

    Integers and choices are those of ``decode``; floats are decoded in double precision, so no
    rounding leaves their bounds.  It is one program, which gives a point always the same values.

    Example:
        >>> decoder({"rate": Float(0.0, 0.3)})(np.ones((1, 1), np.float32))
        [{'rate': 0.3}]
    """
    _, leaves, treedef = flatten(space)
    decode_all = jax.jit(jax.vmap(lambda unit: decode(space, unit)))

    def decoded(unit: Any) -> list[HParams]:
        unit = np.asarray(unit)
        found = treedef.flatten_up_to(jax.device_get(decode_all(unit)))
        members = []
        for i, row in enumerate(unit):
            values = [
                dim.number(part) if isinstance(dim, Float) and dim.step is None else leaf[i]
                for dim, part, leaf in zip(leaves, split(leaves, row), found, strict=True)
            ]
            members.append(readable(space, treedef.unflatten(values)))
        return members

    return decoded


def readable(space: Space, hparams: HParams, digits: int | None = None) -> PyTree:
    """Concrete hyperparameters as Python values: floats, ints, and the values of choices.

    A dimension with a shape gives a NumPy array of numbers (floats of double precision), a choice
    with one nested lists, a ``OneOf`` the ``Branch`` that was chosen.

    Args:
        space: of the hyperparameters.
        hparams: as ``decode`` gives them.
        digits: significant digits that floats are rounded to, within their bounds; all by default.

    Example:
        >>> space = {"rate": Float(1e-4, 1.0, log=True), "kind": Choice(("sgd", "adam"))}
        >>> readable(space, {"rate": 0.0123456, "kind": np.int32(1)}, digits=3)
        {'kind': 'adam', 'rate': 0.0123}
    """
    names, leaves, treedef = flatten(space)
    digits = None if digits is None else checks.whole("digits", digits)
    values = zip(names, leaves, match(space, treedef, hparams), strict=True)
    return chosen(treedef.unflatten([_of_leaf(*each, digits) for each in values]))


def _of_leaf(name: str, leaf: Leaf, value: Any, digits: int | None) -> Any:
    if isinstance(leaf, Constant):
        return leaf.value
    if isinstance(value, Missing):
        return value
    if isinstance(leaf, Choice) and isinstance(value, str):
        value = index_of(name, leaf, value)
    value = np.asarray(value)
    if digits is not None and isinstance(leaf, Float):
        value = _rounded(value, leaf, digits)
    return _readable(leaf, value)


def _rounded(value: np.ndarray, dim: Float, digits: int) -> np.ndarray:
    rounded = np.vectorize(lambda x: float(f"{x:.{digits}g}"), otypes=[float])(value)
    return np.clip(rounded, dim.low, dim.high)


def _readable(dim: Dimension, value: np.ndarray) -> Any:
    if value.shape and isinstance(dim, Choice):
        return [_readable(dim, part) for part in value]
    if value.shape:
        return _inside(dim, value) if isinstance(dim, Float) and dim.step is None else value
    if isinstance(dim, Choice):
        return dim.values[int(value)]
    if isinstance(dim, Int):
        return int(value)
    if dim.step is not None:
        place = round((float(value) - dim.low) / dim.step)
        return float(f"{dim.low + place * dim.step:.12g}")
    return float(_inside(dim, value))


def _inside(dim: Float, value: np.ndarray) -> np.ndarray:
    """In double precision, where what lies outside by a rounding alone is put on the bound."""
    value = value.astype(np.float64)
    inside = np.clip(value, dim.low, dim.high)
    close = np.abs(inside - value) <= 1e-6 * max(abs(dim.low), abs(dim.high))
    return np.where(close, inside, value)
