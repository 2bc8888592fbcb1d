"""From hyperparameters to a point of the unit cube, and whether they are in the space."""

from dataclasses import replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo.base import HParams
from metahpo.space.choice import Choice
from metahpo.space.conditions import MIDDLE, canonical
from metahpo.space.constant import Constant
from metahpo.space.numbers import Float, Int
from metahpo.space.tree import Missing, Space, flatten, match, width


def encode(space: Space, hparams: HParams) -> chex.Array:
    """Turns hyperparameters into a point of the unit cube, ``f[D]``: the inverse of ``decode``.

    Choices are indices, in arrays, as ``decode`` gives them, or Python values, as in ``readable``.
    For a ``OneOf`` there may be what ``decode`` gives, or the chosen branch with its own values:
    a ``Branch``, a pair ``(name, values)``, or ``{name: values}``.  Coordinates of other branches
    are in the middle.

    Integers and choices map into their cells, so ``decode(encode(h)) == h`` as long as the float
    type resolves the cells: in float32 for at least a million values, 50,000 on a logarithmic
    scale.  Floats come back up to rounding.

    Raises:
        ValueError: if ``hparams`` have another structure or shape, a branch or a choice is
            unknown, or there are values for a branch that is not the chosen one.

    Example:
        >>> import metahpo as mh
        >>> space = {"model": mh.OneOf(svm={"C": mh.Float(0.0, 4.0)}, naive={})}
        >>> encode(space, {"model": ("svm", {"C": 1.0})}).tolist()
        [0.25, 0.25]
    """
    names, leaves, treedef = flatten(space)
    columns = []
    for name, dim, value in zip(names, leaves, match(space, treedef, hparams), strict=True):
        if isinstance(dim, Constant):
            continue
        if isinstance(value, Missing):
            columns.append(jnp.full(width(dim), MIDDLE))
            continue
        column = dim.encode(index_of(name, dim, value) if isinstance(dim, Choice) else value)
        if column.shape != dim.shape:
            raise ValueError(
                f"hyperparameter {name} must have shape {dim.shape}, got {column.shape}"
            )
        columns.append(column.reshape(-1))
    return canonical(space, jnp.concatenate(columns))


def check(space: Space, hparams: HParams) -> None:
    """Raises ``ValueError`` unless ``hparams`` are concrete values inside ``space``."""
    names, leaves, treedef = flatten(space)
    for name, dim, value in zip(names, leaves, match(space, treedef, hparams), strict=True):
        if isinstance(value, Missing):
            continue
        if isinstance(dim, Constant):
            _check_constant(name, dim, value)
            continue
        number = np.asarray(index_of(name, dim, value) if isinstance(dim, Choice) else value)
        if number.shape != dim.shape:
            wanted = f"have shape {dim.shape}" if dim.shape else "be a scalar"
            raise ValueError(f"hyperparameter {name} must {wanted}, got shape {number.shape}")
        low, high = (0, len(dim.values) - 1) if isinstance(dim, Choice) else (dim.low, dim.high)
        whole = jnp.issubdtype(number.dtype, jnp.integer)
        if isinstance(dim, Choice) and not whole:
            raise ValueError(
                f"hyperparameter {name} must be the index of one of {dim.values}, got {value!r}"
            )
        if isinstance(dim, Int) and not whole:
            raise ValueError(f"hyperparameter {name} must be a whole number, got {value!r}")
        if not whole and not jnp.issubdtype(number.dtype, jnp.floating):
            raise ValueError(f"hyperparameter {name} must be a real number, got {value!r}")
        inside = (number.astype(float) >= low) & (number.astype(float) <= high)
        if isinstance(dim, Float):  # a float32 bound may lie an ulp outside the float64 one
            inside |= np.isclose(number, low, rtol=1e-6, atol=0)
            inside |= np.isclose(number, high, rtol=1e-6, atol=0)
        if not inside.all():
            raise ValueError(f"hyperparameter {name} must be in [{low}, {high}], got {value!r}")
        if not isinstance(dim, Choice) and dim.step is not None:
            places = (number.astype(float) - low) / dim.step
            if not np.allclose(places, np.round(places), rtol=0, atol=1e-3):
                raise ValueError(
                    f"hyperparameter {name} must be {low} and steps of {dim.step}, got {value!r}"
                )


def _check_constant(name: str, constant: Constant, value: Any) -> None:
    number = 0 if isinstance(constant.value, str) else constant.value
    if np.shape(value) or (value != constant.value and np.asarray(value) != np.float32(number)):
        raise ValueError(
            f"hyperparameter {name} is constant, it must be {constant.value!r}, got {value!r}"
        )


def index_of(name: str, dim: Choice, value: Any) -> Any:
    """The index of a choice, which is given as an array, or as the Python value itself."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return value
    if dim.shape and isinstance(value, list | tuple):
        alone = replace(dim, shape=dim.shape[1:])
        return jnp.stack([jnp.asarray(index_of(name, alone, part)) for part in value])
    alike = [i for i, one in enumerate(dim.values) if type(one) is type(value) and one == value]
    if alike:
        return np.int32(alike[0])
    numbers = any(isinstance(one, int | float) for one in dim.values)
    if isinstance(value, int) and not isinstance(value, bool) and not numbers:
        return np.int32(value)  # it can only be an index
    raise ValueError(
        f"hyperparameter {name} must be one of {dim.values}, or its index as an array, "
        f"got {value!r}"
    )
