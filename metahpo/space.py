"""Search spaces: any pytree whose leaves are ``Float``, ``Int`` or ``Choice``.

A space alone knows bounds, scales, integers and choices.  Strategies see points ``u`` of the unit
cube ``[0, 1]^D``: one coordinate per leaf in the order of ``jax.tree.leaves``, or one for each
entry of a leaf that has a ``shape``.  ``decode`` turns a point into hyperparameters and ``encode``
turns hyperparameters into a point.  All functions but ``check`` and ``readable`` may be jitted and
vmapped.

Example:
    >>> import metahpo as mh
    >>> space = {"lr": mh.Float(1e-4, 1.0, log=True), "width": mh.Int(4, 64)}
    >>> hparams = mh.space.decode(space, jnp.array([0.5, 0.0]))
    >>> round(float(hparams["lr"]), 4), int(hparams["width"])
    (0.01, 4)
    >>> mh.space.decode({"rates": mh.Float(0.0, 2.0, shape=(3,))}, jnp.array([0.0, 0.5, 1.0]))
    {'rates': Array([0., 1., 2.], dtype=float32)}
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import HParams, Key, PyTree

Space = PyTree


@dataclass(frozen=True)
class Float:
    """A real number in ``[low, high]``, uniform on a linear or logarithmic scale.

    Args:
        low: lower bound; positive when ``log``.
        high: upper bound, above ``low``.
        log: whether the unit interval maps to the logarithm of the value.
        shape: of an array of such numbers, each with a coordinate of its own.
        step: between values, of which both bounds are two; all numbers are values without one.  To
            strategies such a number is a whole one, without a gradient.

    Raises:
        ValueError: if the bounds are not finite or the default float type cannot hold them and a
            hundred numbers between them, ``low >= high``, ``log`` with ``low <= 0``, ``shape``
            holds what is not a positive whole number, or ``step`` does not lead from one bound to
            the other.

    Example:
        >>> round(float(Float(1e-4, 1.0, log=True).decode(0.5)), 4)
        0.01
    """

    low: float
    high: float
    log: bool = False
    shape: tuple[int, ...] = ()
    step: float | None = None

    def __post_init__(self) -> None:
        """Checks the bounds."""
        _check_bounds(self)
        checks.fits_floats(self.low, self.high, self.log, self)
        _check_shape(self)
        _check_step(self)
        # Plain numbers, because a NumPy scalar would promote float32 under x64.
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))

    def decode(self, unit: chex.Numeric) -> chex.Array:
        """Maps ``unit`` in [0, 1] to a value of the same float type; differentiable."""
        if self.step is not None:
            return self.low + _cell(unit, _cells(self)) * self.step
        low, high = self._ends()
        value = low + unit * (high - low)
        value = jnp.exp(value) if self.log else jnp.asarray(value)
        # Rounding may leave the bounds by an ulp.  The clip is straight-through because a member
        # that sits on a bound still needs the gradient that leads it back inside.
        return value + jax.lax.stop_gradient(jnp.clip(value, self.low, self.high) - value)

    def number(self, unit: np.ndarray) -> np.ndarray:
        """``decode`` on the host, in double precision and within the bounds; without a ``step``."""
        low, high = self._ends()
        value = low + np.asarray(unit, np.float64) * (high - low)
        return np.clip(np.exp(value) if self.log else value, self.low, self.high)

    def encode(self, value: chex.Numeric) -> chex.Array:
        """Maps a value in ``[low, high]`` to the unit interval."""
        if self.step is not None:
            return (jnp.round((jnp.asarray(value) - self.low) / self.step) + 0.5) / _cells(self)
        low, high = self._ends()
        return ((jnp.log(value) if self.log else jnp.asarray(value)) - low) / (high - low)

    def _ends(self) -> tuple[float, float]:
        return (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)


@dataclass(frozen=True)
class Int:
    """A whole number in ``low ... high``, both ends included; every number gets its own cell.

    On the linear scale all cells are equally wide; on the logarithmic scale the cell of ``k``
    reaches from ``log(k - 1/2)`` to ``log(k + 1/2)``.

    Args:
        low: the smallest value; at least 1 when ``log``.
        high: the largest value, above ``low``.
        log: whether the unit interval maps to the logarithm of the value.
        shape: of an array of such numbers, each with a coordinate of its own.
        step: between values, of which both bounds are two; only on the linear scale.

    Raises:
        ValueError: if a bound is not whole or not of 32 bits, ``low >= high``, ``log`` with
            ``low <= 0``, ``shape`` holds what is not a positive whole number, or ``step`` does not
            lead from one bound to the other.

    Example:
        >>> [int(Int(1, 4).decode(u)) for u in (0.0, 0.24, 0.26, 1.0)]
        [1, 1, 2, 4]
    """

    low: int
    high: int
    log: bool = False
    shape: tuple[int, ...] = ()
    step: int = 1

    def __post_init__(self) -> None:
        """Checks the bounds."""
        _check_bounds(self)
        _check_shape(self)
        _check_step(self)
        if int(self.low) != self.low or int(self.high) != self.high:
            raise ValueError(f"the bounds of an Int must be whole numbers, got {self}")
        if self.low < -(2**31) or self.high >= 2**31:
            raise ValueError(f"the bounds of an Int must fit into 32 bits, got {self}")
        object.__setattr__(self, "low", int(self.low))
        object.__setattr__(self, "high", int(self.high))
        object.__setattr__(self, "step", int(self.step))

    def decode(self, unit: chex.Numeric) -> chex.Array:
        """Maps ``unit`` in [0, 1] to an ``i32``; cells are half open."""
        low, high = self._ends()
        if not self.log and _cells(self) <= _MOST_EXACT:
            return self.low + self.step * _cell(unit, _cells(self)).astype(jnp.int32)
        value = low + unit * (high - low)
        value = jnp.floor((jnp.exp(value) if self.log else value) + 0.5)
        # Compared as floats, because the largest whole numbers round up to what 32 bits lack.
        least, most = (value <= self.low) | (unit <= 0), (value >= self.high) | (unit >= 1)
        inside = jnp.where(least | most, 0, value).astype(jnp.int32)
        return jnp.where(least, self.low, jnp.where(most, self.high, inside))

    def encode(self, value: chex.Numeric) -> chex.Array:
        """Maps a whole number to a point inside its cell."""
        low, high = self._ends()
        if not self.log and _cells(self) <= _MOST_EXACT:
            return ((jnp.asarray(value) - self.low) / self.step + 0.5) / _cells(self)
        value = jnp.asarray(value, dtype=jnp.result_type(float))
        return ((jnp.log(value) if self.log else value) - low) / (high - low)

    def _ends(self) -> tuple[float, float]:
        low, high = self.low - 0.5, self.high + 0.5
        return (math.log(low), math.log(high)) if self.log else (low, high)


@dataclass(frozen=True)
class Choice:
    """One of several unordered values.

    Inside a compiled program a choice is the *index* (``i32``) of its value, ready for
    ``jax.lax.switch`` or for indexing an array of the values; ``readable`` gives the value.

    Args:
        values: the values, of any type.
        shape: of an array of such choices, each with a coordinate of its own.

    Raises:
        ValueError: if there is no value, one stands twice, or ``shape`` holds what is not a
            positive whole number.

    Example:
        >>> activation = Choice(("relu", "tanh"))
        >>> activation.values[int(activation.decode(0.7))]
        'tanh'
    """

    values: Sequence[Any]
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Checks the values and makes them hashable."""
        _check_shape(self)
        if isinstance(self.values, str) or not isinstance(self.values, Sequence):
            raise ValueError(f"Choice needs a sequence of values, got {self.values!r}")
        if not self.values:
            raise ValueError("Choice needs at least one value, got an empty sequence")
        object.__setattr__(self, "values", tuple(self.values))
        if _repeats(self.values):
            raise ValueError(f"the values of a Choice must differ, got {self.values}")

    def decode(self, unit: chex.Numeric) -> chex.Array:
        """Maps ``unit`` in [0, 1] to the index of a value, ``i32``."""
        return _cell(unit, len(self.values)).astype(jnp.int32)

    def encode(self, index: chex.Numeric) -> chex.Array:
        """Maps an index to the middle of its cell."""
        return (jnp.asarray(index, dtype=jnp.result_type(float)) + 0.5) / len(self.values)


Dimension = Float | Int | Choice

_MOST_EXACT = 2**24
"""Whole numbers up to here are floats of 32 bits too."""


def _cells(dim: Float | Int) -> int:
    """How many values a dimension with a step has."""
    assert dim.step is not None
    return round((dim.high - dim.low) / dim.step) + 1


def _cell(unit: chex.Numeric, count: int) -> chex.Array:
    """In which of so many equal, half-open cells a coordinate lies, as a float."""
    return jnp.clip(jnp.floor(jnp.asarray(unit) * count), 0, count - 1)


def _repeats(values: Sequence[Any]) -> bool:
    try:
        return len(set(values)) < len(values)
    except TypeError:  # a value without a hash
        return any(value in values[:i] for i, value in enumerate(values))


def _check_bounds(dimension: Float | Int) -> None:
    if not (np.isfinite(dimension.low) and np.isfinite(dimension.high)):
        raise ValueError(f"bounds must be finite, got {dimension}")
    if dimension.low >= dimension.high:
        raise ValueError(f"low must be below high, got {dimension}")
    if dimension.log and dimension.low <= 0:
        raise ValueError(f"a logarithmic scale needs low > 0, got {dimension}")


def _check_step(dimension: Float | Int) -> None:
    step = dimension.step
    if step is None or (isinstance(dimension, Int) and step == 1):
        return
    if isinstance(dimension, Int) and (isinstance(step, bool) or step != int(step)):
        raise ValueError(f"the step of an Int must be a whole number, got {dimension}")
    if dimension.log:
        raise ValueError(f"a step needs a linear scale, got {dimension}")
    if not step > 0:
        raise ValueError(f"a step must be positive, got {dimension}")
    steps = (dimension.high - dimension.low) / step
    if not math.isclose(steps, round(steps), rel_tol=1e-9) or round(steps) >= MOST_CELLS:
        raise ValueError(
            f"less than {MOST_CELLS} whole steps must lead from low to high, got {dimension}"
        )


def _check_shape(dimension: Dimension) -> None:
    if isinstance(dimension.shape, int):
        object.__setattr__(dimension, "shape", (dimension.shape,))
    if any(length != int(length) or length < 1 for length in dimension.shape):
        raise ValueError(f"a shape must hold positive whole numbers, got {dimension}")
    object.__setattr__(dimension, "shape", tuple(int(length) for length in dimension.shape))


def _flatten(space: Space) -> tuple[list[str], list[Dimension], Any]:
    """Names, dimensions and tree structure; refuses what is not a space."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(space)
    for path, leaf in paths:
        if not isinstance(leaf, Dimension):
            name = jax.tree_util.keystr(path)
            raise ValueError(
                f"a space is a pytree whose leaves are Float, Int or Choice; "
                f"its leaf {name or '(root)'} is {leaf!r}"
            )
    if not paths:
        raise ValueError(f"a space needs at least one dimension, got {space!r}")
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    if len(set(names)) < len(names):
        raise ValueError(f"the names of a space's dimensions must differ, got {names}")
    return names, [leaf for _, leaf in paths], treedef


def dimensions(space: Space) -> dict[str, Dimension]:
    """The ``D`` coordinates of the unit cube in their order: a scalar dimension by its name.

    Nested names are joined by dots; the coordinates of ``{"x": Float(0, 1, shape=(2,))}`` are
    called ``x[0]`` and ``x[1]``.  A dimension with a step is here the number of its step, an
    ``Int`` from 0.
    """
    found: dict[str, Dimension] = {}
    for name, dim in zip(*_flatten(space)[:2], strict=True):
        scalar = _as_searched(replace(dim, shape=()) if dim.shape else dim)
        for index in np.ndindex(dim.shape):
            found[name + "".join(f"[{i}]" for i in index)] = scalar
    return found


def _as_searched(dim: Dimension) -> Dimension:
    """What strategies see of a dimension: the number of a step instead of its value."""
    if isinstance(dim, Choice) or dim.step is None or (isinstance(dim, Int) and dim.step == 1):
        return dim
    return Int(0, _cells(dim) - 1)


def _is_continuous(dim: Dimension) -> bool:
    return isinstance(dim, Float) and dim.step is None


def names(space: Space) -> list[str]:
    """The names of the space's leaves, in the order in which JAX has them; nested ones with dots.

    Example:
        >>> names({"b": Float(0.0, 1.0), "a": {"c": Int(1, 2)}})
        ['a.c', 'b']
    """
    return _flatten(space)[0]


def size(space: Space) -> int:
    """The number ``D`` of coordinates of the unit cube."""
    return sum(math.prod(dim.shape) for dim in _flatten(space)[1])


def is_continuous(space: Space) -> np.ndarray:
    """``bool[D]``: which coordinates are floats, that is, have a gradient."""
    return np.concatenate(
        [np.full(math.prod(d.shape), _is_continuous(d)) for d in _flatten(space)[1]]
    )


MOST_CELLS = 2**16


def thresholds(space: Space) -> list[np.ndarray]:
    """The boundaries between the cells of integers and choices, for each of the ``D`` coordinates.

    ``decode`` gives one value everywhere between two neighbouring boundaries, and another one
    beyond.  Floats have none, and neither have integers of more than ``MOST_CELLS`` values, which
    for a search are as good as continuous.

    Returns:
        ``D`` sorted arrays ``f64[cells - 1]`` inside (0, 1).

    Example:
        >>> thresholds({"a": Float(0.0, 1.0), "b": Choice((1, 2, 3, 4))})
        [array([], dtype=float64), array([0.25, 0.5 , 0.75])]
    """
    return [_thresholds(dim) for dim in dimensions(space).values()]


def _thresholds(dim: Dimension) -> np.ndarray:
    if isinstance(dim, Choice):
        return np.arange(1, len(dim.values)) / len(dim.values)
    if isinstance(dim, Float) or dim.high - dim.low >= MOST_CELLS:
        return np.zeros(0)
    low, high = dim._ends()
    between = np.arange(dim.low, dim.high) + 0.5
    return ((np.log(between) if dim.log else between) - low) / (high - low)


def decode(space: Space, unit: chex.Array) -> HParams:
    """Turns a point of the unit cube into hyperparameters.

    Args:
        space: the search space.
        unit: ``f32[D]`` or ``f64[D]`` in [0, 1].

    Returns:
        A pytree like ``space`` of arrays of the dimensions' shapes, scalars by default: floats of
        ``unit``'s type, ``i32`` for ``Int`` (the number) and ``Choice`` (the index).  Gradients
        flow through the floats.

    Raises:
        ValueError: if ``space`` is not a space or ``unit`` has another length.
    """
    _, dims, treedef = _flatten(space)
    unit = jnp.asarray(unit)
    if unit.shape != (size(space),):
        raise ValueError(f"unit must have shape ({size(space)},) for this space, got {unit.shape}")
    parts = _split(dims, unit)
    return treedef.unflatten([dim.decode(part) for dim, part in zip(dims, parts, strict=True)])


def decoder(space: Space) -> Callable[[Any], list[HParams]]:
    """``(unit f[P, D]) -> P`` times the hyperparameters as ``readable`` gives them.

    Integers and choices are those of ``decode``; floats are decoded in double precision, so no
    rounding leaves their bounds.  It is one program, which gives a point always the same values.

    Example:
        >>> decoder({"rate": Float(0.0, 0.3)})(np.ones((1, 1), np.float32))
        [{'rate': 0.3}]
    """
    _, dims, treedef = _flatten(space)
    decode_all = jax.jit(jax.vmap(lambda unit: decode(space, unit)))

    def decoded(unit: Any) -> list[HParams]:
        unit = np.asarray(unit)
        leaves = treedef.flatten_up_to(jax.device_get(decode_all(unit)))
        members = []
        for i, row in enumerate(unit):
            values = [
                dim.number(part) if isinstance(dim, Float) and dim.step is None else leaf[i]
                for dim, part, leaf in zip(dims, _split(dims, row), leaves, strict=True)
            ]
            members.append(readable(space, treedef.unflatten(values)))
        return members

    return decoded


def encode(space: Space, hparams: HParams) -> chex.Array:
    """Turns hyperparameters into a point of the unit cube, ``f[D]``: the inverse of ``decode``.

    Choices are indices, in arrays, as ``decode`` gives them, or Python values, as in ``readable``.

    Integers and choices map into their cells, so ``decode(encode(h)) == h`` as long as the float
    type resolves the cells: in float32 for at least a million values, 50,000 on a logarithmic
    scale.  Floats come back up to rounding.
    """
    names, dims, treedef = _flatten(space)
    columns = []
    for name, dim, value in zip(names, dims, _match(space, treedef, hparams), strict=True):
        column = dim.encode(_index(name, dim, value) if isinstance(dim, Choice) else value)
        if column.shape != dim.shape:
            raise ValueError(
                f"hyperparameter {name} must have shape {dim.shape}, got {column.shape}"
            )
        columns.append(column.reshape(-1))
    return jnp.concatenate(columns)


def pullback(space: Space, unit: chex.Array, grad: HParams) -> chex.Array:
    """The gradient ``f[D]`` on the unit cube of a function with gradient ``grad`` at ``decode``.

    Coordinates of integers and choices get zero.
    """
    _, dims, treedef = _flatten(space)
    columns = []
    grads = treedef.flatten_up_to(grad)
    for name, dim, u, g in zip(names(space), dims, _split(dims, unit), grads, strict=True):
        if _is_continuous(dim):
            if jnp.shape(g) != dim.shape:
                raise ValueError(
                    f"the gradient of {name} must have shape {dim.shape}, got {jnp.shape(g)}"
                )
            slope = jax.jvp(dim.decode, (u,), (jnp.ones_like(u),))[1]
            columns.append((slope * jnp.asarray(g, dtype=u.dtype)).reshape(-1))
        else:
            columns.append(jnp.zeros(u.size, u.dtype))
    return jnp.concatenate(columns)


def _split(dims: Sequence[Dimension], unit: chex.Array) -> list[chex.Array]:
    """The coordinates of every dimension, in its shape."""
    ends = np.cumsum([math.prod(dim.shape) for dim in dims])
    return [
        unit[end - math.prod(dim.shape) : end].reshape(dim.shape)
        for dim, end in zip(dims, ends.tolist(), strict=True)
    ]


def sample(key: Key, space: Space) -> HParams:
    """Draws hyperparameters uniformly from the unit cube."""
    return decode(space, jax.random.uniform(key, (size(space),)))


def check(space: Space, hparams: HParams) -> None:
    """Raises ``ValueError`` unless ``hparams`` are concrete values inside ``space``."""
    names, dims, treedef = _flatten(space)
    for name, dim, value in zip(names, dims, _match(space, treedef, hparams), strict=True):
        number = np.asarray(_index(name, dim, value) if isinstance(dim, Choice) else value)
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


def readable(space: Space, hparams: HParams, digits: int | None = None) -> PyTree:
    """Concrete hyperparameters as Python values: floats, ints, and the values of choices.

    A dimension with a shape gives a NumPy array of numbers (floats of double precision), a choice
    with one nested lists.

    Args:
        space: of the hyperparameters.
        hparams: as ``decode`` gives them.
        digits: significant digits that floats are rounded to, within their bounds; all by default.

    Example:
        >>> space = {"rate": Float(1e-4, 1.0, log=True), "kind": Choice(("sgd", "adam"))}
        >>> readable(space, {"rate": 0.0123456, "kind": np.int32(1)}, digits=3)
        {'kind': 'adam', 'rate': 0.0123}
    """
    _, dims, treedef = _flatten(space)
    values = [np.asarray(value) for value in _match(space, treedef, hparams)]
    if digits is not None:
        digits = checks.whole("digits", digits)
        pairs = zip(dims, values, strict=True)
        values = [_rounded(v, d, digits) if isinstance(d, Float) else v for d, v in pairs]
    return treedef.unflatten(
        [_readable(dim, value) for dim, value in zip(dims, values, strict=True)]
    )


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


def _index(name: str, dim: Choice, value: Any) -> Any:
    """The index of a choice, which is given as an array, or as the Python value itself."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return value
    if dim.shape and isinstance(value, list | tuple):
        alone = replace(dim, shape=dim.shape[1:])
        return jnp.stack([jnp.asarray(_index(name, alone, part)) for part in value])
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


def _match(space: Space, treedef: Any, hparams: HParams) -> list[Any]:
    """The values in the order of the space; lists are the values of choices with a shape."""
    try:
        return treedef.flatten_up_to(hparams)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"hyperparameters do not match the space: the space has the structure {treedef}, "
            f"the hyperparameters have {jax.tree.structure(hparams)}"
        ) from error
