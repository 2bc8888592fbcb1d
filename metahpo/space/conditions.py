"""Which coordinates of a point mean something: those of the branches that it chooses."""

from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from metahpo.space.choice import Choice
from metahpo.space.one_of import BranchKey, WhichKey
from metahpo.space.tree import Space, width, with_paths

MIDDLE = 0.5
"""Where a coordinate stands that is not active."""


class Condition(NamedTuple):
    """That the choice in a coordinate is the branch of an index."""

    column: int
    choice: Choice
    branch: int


def conditions(space: Space) -> list[tuple[Condition, ...]]:
    """For each of the ``D`` coordinates what must hold for it to be active, the outermost first.

    Example:
        >>> import metahpo as mh
        >>> one = mh.OneOf(svm={"C": mh.Float(0.0, 1.0)}, naive={})
        >>> [[(c.column, c.branch) for c in each] for each in conditions({"model": one})]
        [[], [(0, 0)]]
    """
    paths, leaves, _ = with_paths(space)
    choices: dict[tuple[Any, ...], tuple[int, Any]] = {}  # by the path of a OneOf
    found: list[tuple[Condition, ...]] = []
    for path, leaf in zip(paths, leaves, strict=True):
        if path and isinstance(path[-1], WhichKey):
            choices[path[:-1]] = len(found), leaf
        own = tuple(
            Condition(*choices[path[:depth]], key.index)
            for depth, key in enumerate(path)
            if isinstance(key, BranchKey)
        )
        found += [own] * width(leaf)
    return found


def is_conditional(space: Space) -> bool:
    """Whether there is a coordinate that is not always active."""
    return any(conditions(space))


def active(space: Space, unit: chex.Array) -> chex.Array:
    """Which coordinates mean something: those in no ``OneOf``, and those of chosen branches.

    Args:
        space: the search space.
        unit: ``f[..., D]``, points of the unit cube.

    Returns:
        ``bool[..., D]``.

    Raises:
        ValueError: if ``space`` is not a space or ``unit`` has another length.

    Example:
        >>> import jax.numpy as jnp, metahpo as mh
        >>> space = mh.OneOf(svm={"C": mh.Float(0.0, 1.0)}, forest={"depth": mh.Int(1, 9)})
        >>> active(space, jnp.array([[0.1, 0.5, 0.5], [0.9, 0.5, 0.5]])).tolist()
        [[True, True, False], [True, False, True]]
    """
    each = conditions(space)
    unit = jnp.asarray(unit)
    if unit.shape[-1:] != (len(each),):
        raise ValueError(f"unit must have shape [..., {len(each)}], got {unit.shape}")
    distinct = list(dict.fromkeys(each))
    holds = [_holds(unit, needed) for needed in distinct]
    return jnp.stack(holds, axis=-1)[..., np.array([distinct.index(needed) for needed in each])]


def _holds(unit: chex.Array, needed: tuple[Condition, ...]) -> chex.Array:
    held = jnp.ones(unit.shape[:-1], bool)
    for condition in needed:
        held &= condition.choice.decode(unit[..., condition.column]) == condition.branch
    return held


def canonical(space: Space, unit: chex.Array) -> chex.Array:
    """``f[..., D]``: points whose coordinates stand in the middle where they are not active.

    Two points of the same hyperparameters are so the same point, up to the cells of integers and
    choices.  Without a ``OneOf`` it is ``unit`` itself.

    Example:
        >>> import jax.numpy as jnp, metahpo as mh
        >>> space = mh.OneOf(svm={"C": mh.Float(0.0, 1.0)}, naive={})
        >>> canonical(space, jnp.array([[0.1, 0.25], [0.75, 0.25]])).tolist()
        [[0.10000000149011612, 0.25], [0.75, 0.5]]
    """
    if not is_conditional(space):
        return unit
    unit = jnp.asarray(unit)
    return jnp.where(active(space, unit), unit, jnp.asarray(MIDDLE, unit.dtype))
