"""What an instance of a BBOB function is made of: its optimum, its rotations, its peaks."""

from typing import NamedTuple

import chex
import numpy as np

from metahpo.problems.bbob.generators import normals, optimum, powers, rotation, uniforms

FUNCTIONS = 24
LARGEST_DIMENSION, LARGEST_INSTANCE = 1000, 100_000  # what the seeds of the generator allow
# The functions that share a seed with another one, and so its optimum and rotations.
SEEDS = {4: 3, 18: 17}
SCHWEFEL = 4.2096874637  # twice the distance of the optimum from zero, as COCO rounds it
LUNACEK = 2.5
HIGHEST_PEAK, LOW_PEAKS = 10.0, (1.1, 9.1)


class BBOBInstance(NamedTuple):
    """One instance of a BBOB function, as arrays; fields that a function does not use are None.

    Attributes:
        x_opt: ``f[D]``, where the function is zero.
        inner: ``f[D, D]``, the linear map applied first, rotations and scales in one.
        outer: ``f[D, D]``, the one applied last.
        peaks: ``f[K, D]``, the peaks' rotated positions relative to the first, which is highest.
        widths: ``f[K, D]``, the weights of their squared distances.
        heights: ``f[K]``.
    """

    x_opt: chex.Array
    inner: chex.Array | None = None
    outer: chex.Array | None = None
    peaks: chex.Array | None = None
    widths: chex.Array | None = None
    heights: chex.Array | None = None


def bbob_instance(function: int, dimension: int, instance: int) -> BBOBInstance:
    """The arrays of one instance of a BBOB function, equal to those of the platform COCO.

    They are computed on the host in double precision, whatever JAX's mode, and take that mode's
    type when they enter a JAX function.  Cast them (``jax.tree.map``) for another one; stack those
    of several instances of a function to vmap over them.

    Args:
        function: 1 ... 24.
        dimension: ``D``, at least 2.
        instance: at least 1; published results use 1 ... 15.

    Returns:
        A ``BBOBInstance`` of ``f64`` NumPy arrays.

    Raises:
        ValueError: for a number out of range.

    Source:
        Hansen, Finck, Ros & Auger, "Real-parameter black-box optimization benchmarking 2009:
        noiseless functions definitions", INRIA RR-6829 (2009).

    Example:
        >>> bbob_instance(1, 3, 1).x_opt
        array([ 0.2528, -1.1568, -0.724 ])
    """
    check_function(function)
    check_dimension(dimension)
    _check_whole("instance", instance, 1, LARGEST_INSTANCE)
    function, dimension = int(function), int(dimension)
    seed = SEEDS.get(function, function) + 10_000 * int(instance)
    if function in (21, 22):
        return _gallagher(function, dimension, seed)
    inner, outer = _maps(function, dimension, seed)
    return BBOBInstance(_optimum(function, dimension, seed, inner), inner, outer)


def check_function(function: int) -> None:
    """Raises ``ValueError`` unless ``function`` is the number of a BBOB function."""
    _check_whole("function", function, 1, FUNCTIONS)


def check_dimension(dimension: int) -> None:
    """Raises ``ValueError`` unless BBOB functions have this dimension."""
    _check_whole("dimension", dimension, 2, LARGEST_DIMENSION)


def _check_whole(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise ValueError(f"a BBOB {name} must be a whole number, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"a BBOB {name} must be in {low} ... {high}, got {value}")


def _optimum(function: int, dimension: int, seed: int, inner: np.ndarray | None) -> np.ndarray:
    x_opt = optimum(dimension, seed)
    match function:
        case 4:
            x_opt[::2] = np.abs(x_opt[::2])
        case 5:
            x_opt = 5 * np.sign(x_opt)
        case 8:
            x_opt = 0.75 * x_opt
        case 9 | 19:  # where ``inner @ x + 1/2`` is one
            assert inner is not None
            x_opt = inner.sum(axis=0) / (2 * _widening(dimension) ** 2)
        case 12:
            x_opt = optimum(dimension, seed + 1_000_000)
        case 20:
            x_opt = SCHWEFEL / 2 * np.sign(uniforms(dimension, seed) - 0.5)
        case 24:
            x_opt = LUNACEK / 2 * np.sign(normals(dimension, seed))
    return x_opt


def _maps(function: int, dimension: int, seed: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The linear maps that a function applies to ``x - x_opt``, first and last."""
    if function in (1, 2, 3, 4, 5, 8, 20):
        return None, None
    q = rotation(dimension, seed)
    if function in (9, 19):
        return _widening(dimension) * q, None
    r = rotation(dimension, seed + 1_000_000)
    conditions = {6: 10, 7: 10, 13: 10, 15: 10, 16: 0.01, 17: 10, 18: 1000, 23: 100, 24: 100}
    scaled = powers(np.sqrt(conditions.get(function, 1)), dimension)[:, None] * q
    match function:
        case 6 | 13 | 23 | 24:
            return r @ scaled, None
        case 7:
            return scaled, r
        case 10 | 11 | 14:
            return r, None
        case 12:
            return r, r
        case 15 | 16:
            return r, r @ scaled
        case _:  # 17, 18
            return r, scaled


def _widening(dimension: int) -> float:
    """By how much Rosenbrock's valley is widened in few dimensions."""
    return max(1.0, np.sqrt(dimension) / 8)


def _gallagher(function: int, dimension: int, seed: int) -> BBOBInstance:
    count, spread, first = (101, 10.0, np.sqrt(1000)) if function == 21 else (21, 9.8, 1000.0)
    q = rotation(dimension, seed)
    order = np.argsort(uniforms(count - 1, seed), kind="stable")
    conditions = np.concatenate([[first], powers(1000.0, count - 1)[order]])
    widths = [
        (powers(condition, dimension) / np.sqrt(condition))[
            np.argsort(uniforms(dimension, seed + 1000 * i), kind="stable")
        ]
        for i, condition in enumerate(conditions)
    ]
    at = spread * (uniforms(dimension * count, seed).reshape(count, dimension) - 0.5)
    at[0] *= 0.8  # the optimum keeps away from the bounds
    heights = np.concatenate([[HIGHEST_PEAK], np.linspace(*LOW_PEAKS, count - 1)])
    return BBOBInstance(at[0], q, None, (at - at[0]) @ q.T, np.stack(widths), heights)
