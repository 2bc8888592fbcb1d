"""BBOB functions of which most coordinates are integers or choices."""

from collections.abc import Collection
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo.base import HParams, Key, Problem
from metahpo.problems.bbob.instances import BBOBInstance, bbob_instance
from metahpo.problems.bbob.problem import PUBLISHED, bbob
from metahpo.problems.bbob.transformations import EDGE
from metahpo.problems.synthetic import without_training
from metahpo.space import Choice, Float, Int

ARITIES = (2, 4, 8, 16)  # of four fifths of the coordinates; the last fifth are floats
UNORDERED = (4,)
OPTIMA = 4.0  # nearly all optima lie in [-4, 4]^D


class MixedIntegerInstance(NamedTuple):
    """One instance, as arrays; stack those of several instances to vmap over them.

    Attributes:
        bbob: the continuous function.
        values: for each arity ``L`` an ``f[D / 5, L]``: what the integers and choices stand for.
    """

    bbob: BBOBInstance
    values: tuple[chex.Array, ...]


def mixed_integer(function: int, dimension: int, unordered: Collection[int] = UNORDERED) -> Problem:
    """A BBOB function of floats, integers and choices, less its optimal value.

    As in the suite bbob-mixint, the first fifth of the coordinates takes 2 values, the next ones 4,
    8 and 16, evenly spaced and shifted so that the continuous function's optimum is among them; the
    last fifth are floats in [-5, 5].  Here some of the coordinates are unordered choices: what
    their values stand for is shuffled.  The suite's constant factors are left out.

    Args:
        function: 1 ... 24, see ``bbob``; 1 sphere, 2 separable ellipsoid, 3 separable Rastrigin,
            8 Rosenbrock.
        dimension: ``D``, a multiple of 5.
        unordered: which arities, of 2, 4, 8 and 16, are choices; none of them gives the suite's
            functions.

    Returns:
        A Problem with hyperparameters from ``mixed_integer_space`` and tasks from
        ``mixed_integer_instance``; ``sample`` draws one of instances 1 ... 15.  The lowest loss
        is 0.

    Raises:
        ValueError: for another function, dimension or arity.

    Source:
        Tusar, Brockhoff & Hansen, "Mixed-integer benchmark problems for single- and bi-objective
        optimization", GECCO 2019, section 3.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.problems.mixed_integer(1, 5)
        >>> space = mh.problems.mixed_integer_space(5)
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, problem, space, mh.strategies.snes(space, population=10),
        ...     rounds=100, steps=1, task=mh.problems.mixed_integer_instance(1, 5, 1),
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-3)
        True
    """
    space = mixed_integer_space(dimension, unordered)
    continuous = bbob(function, dimension)

    def sample(key: Key) -> MixedIntegerInstance:
        each = [mixed_integer_instance(function, dimension, i, unordered) for i in PUBLISHED]
        stacked = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *each)
        index = jax.random.randint(key, (), 0, len(PUBLISHED))
        return jax.tree.map(lambda x: x[index], stacked)

    def loss(key: Key, hparams: HParams, task: MixedIntegerInstance) -> chex.Array:
        names = sorted(space)
        parts = [
            jnp.take_along_axis(jnp.asarray(values), hparams[name][:, None], axis=1)[:, 0]
            for name, values in zip(names, task.values, strict=False)
        ]
        parts.append(hparams[names[-1]])
        return continuous.loss(key, {"x": jnp.concatenate(parts)}, task.bbob, ())

    return without_training(sample, loss)


def mixed_integer_space(
    dimension: int, unordered: Collection[int] = UNORDERED
) -> dict[str, Int | Choice | Float]:
    """The search space of the mixed-integer functions.

    Args:
        dimension: ``D``, a multiple of 5; each leaf has ``D / 5`` coordinates.
        unordered: which arities, of 2, 4, 8 and 16, are choices.

    Returns:
        ``{"of_02": ..., "of_04": ..., "of_08": ..., "of_16": ..., "x": Float(-5, 5, ...)}``.

    Raises:
        ValueError: for another dimension or arity.

    Example:
        >>> mixed_integer_space(10)["of_08"]
        Int(low=0, high=7, log=False, shape=(2,), step=1)
    """
    shape = (_fifth(dimension),)
    if unknown := [arity for arity in unordered if arity not in ARITIES]:
        raise ValueError(f"an unordered arity must be one of {ARITIES}, got {unknown[0]}")
    space: dict[str, Int | Choice | Float] = {}
    for arity in ARITIES:
        choice = arity in unordered
        space[f"of_{arity:02d}"] = (
            Choice(tuple(range(arity)), shape) if choice else Int(0, arity - 1, shape=shape)
        )
    return space | {"x": Float(-EDGE, EDGE, shape=shape)}


def mixed_integer_instance(
    function: int, dimension: int, instance: int, unordered: Collection[int] = UNORDERED
) -> MixedIntegerInstance:
    """The arrays of one instance: those of the BBOB instance, and what the integers stand for.

    Args:
        function: 1 ... 24.
        dimension: ``D``, a multiple of 5.
        instance: at least 1; published results use 1 ... 15.
        unordered: which arities, of 2, 4, 8 and 16, are choices.

    Returns:
        A ``MixedIntegerInstance`` of ``f64`` NumPy arrays.

    Raises:
        ValueError: for a number out of range.

    Example:
        >>> instance = mixed_integer_instance(1, 5, 1, unordered=())
        >>> bool(np.isclose(instance.values[1], instance.bbob.x_opt[1]).any())
        True
    """
    count = _fifth(dimension)
    inner = bbob_instance(function, dimension, instance)
    rng = np.random.default_rng([function, dimension, instance])
    values = []
    for i, arity in enumerate(ARITIES):
        of_arity = grid(np.asarray(inner.x_opt)[i * count : (i + 1) * count], arity)
        values.append(rng.permuted(of_arity, axis=1) if arity in unordered else of_arity)
    return MixedIntegerInstance(inner, tuple(values))


def grid(x_opt: np.ndarray, arity: int) -> np.ndarray:
    """``f[K, arity]``: evenly spaced values inside [-4, 4], shifted so that one is ``x_opt``."""
    width = 2 * OPTIMA / (arity + 1)
    plain = -OPTIMA + width * np.arange(1, arity + 1)
    nearest = np.abs(x_opt[:, None] - plain).argmin(axis=1)
    return plain + (x_opt - plain[nearest])[:, None]


def _fifth(dimension: int) -> int:
    if dimension != int(dimension) or dimension < 5 or dimension % 5:
        raise ValueError(f"a mixed-integer dimension must be a multiple of 5, got {dimension}")
    return int(dimension) // 5
