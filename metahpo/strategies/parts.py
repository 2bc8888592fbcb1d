"""What strategies share: checks of their arguments, starting points, proposals."""

from collections.abc import Collection
from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import FULL_BUDGET, Evaluation, HParams, Key, Needs, Proposal, PyTree
from metahpo.space import Space

Initial: TypeAlias = HParams | list[HParams] | chex.Array


def check_population(name: str, population: int, at_least: int = 1) -> int:
    """``population``; ``ValueError`` unless it is a whole number of at least ``at_least``."""
    if not checks.is_whole(population) or population < at_least:
        raise ValueError(
            f"{name} needs a population that is a whole number of at least {at_least}, "
            f"got {population}"
        )
    return int(population)


def check_initial(
    space: Space, most: int, initial: Initial | None, limit: str = "population"
) -> chex.Array | None:
    """The points ``f[K, D]`` that a strategy is to begin with.

    Args:
        space: the search space.
        most: of the points, the population or another ``limit``.
        initial: hyperparameters in the structure of the space, such as the best ones of another
            run; a list of them; or points of the unit cube, ``f[K, D]``.  Values may be traced;
            ``starting_points`` moves those into the cube.
        limit: what ``most`` is.

    Returns:
        The points; ``None`` for ``None``.

    Raises:
        ValueError: if a value or a point lies outside, or there are too many.

    Example:
        >>> import metahpo as mh
        >>> check_initial({"x": mh.Float(-1.0, 1.0)}, 4, [{"x": 0.0}, {"x": 0.5}]).tolist()
        [[0.5], [0.75]]
    """
    if initial is None:
        return None
    points = initial if hasattr(initial, "shape") else _points(space, initial)
    shape, size = jnp.shape(points), spaces.size(space)
    if len(shape) != 2 or shape[1] != size:
        raise ValueError(
            f"initial must be hyperparameters of this space, a list of them, or points of the "
            f"shape [K, {size}], got {f'the shape {shape}' if shape else repr(initial)}"
        )
    if shape[0] > most:
        raise ValueError(f"initial has {shape[0]} points, more than the {limit} {most}")
    if not checks.known(points):
        return jnp.asarray(points)
    outside = np.argwhere((np.asarray(points) < 0) | (np.asarray(points) > 1))
    if len(outside):
        row, column = outside[0]
        name = list(spaces.dimensions(space))[column]
        raise ValueError(
            f"initial must lie in the unit cube [0, 1]^{size}, got "
            f"{float(np.asarray(points)[row, column])} for {name} in point {row}"
        )
    return jnp.asarray(points)


def _points(space: Space, initial: Initial) -> chex.Array:
    """``f[K, D]``: hyperparameters encoded; what is none of this space as it is."""
    several = initial if isinstance(initial, list) else [initial]
    if not any(spaces.fits(space, hparams) for hparams in several):
        numbers = all(isinstance(leaf, float | int) for leaf in jax.tree.leaves(initial))
        if isinstance(initial, list) and numbers and not spaces.fits(space, initial):
            return np.asarray(initial)  # points, written as lists
        several = [initial]
    for hparams in several:
        if checks.known(*jax.tree.leaves(hparams)):
            spaces.check(space, hparams)
    # A bound may be encoded to an ulp beyond it.
    return jnp.clip(jnp.stack([spaces.encode(space, hparams) for hparams in several]), 0.0, 1.0)


def named(space: Space, names: Collection[str]) -> np.ndarray:
    """``bool[D]``: which coordinates have one of ``names``.

    ``"x"`` names all coordinates of an array, ``"x[0]"`` the first of them.

    Raises:
        ValueError: if the space has no dimension of such a name.
    """
    known = list(spaces.dimensions(space))
    arrays = [name.rsplit("[", 1)[0] for name in known]
    names = [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in names if name not in known + arrays]:
        raise ValueError(f"the space has no dimension {unknown[0]!r}; it has {known}")
    return np.array([not {*pair}.isdisjoint(names) for pair in zip(known, arrays, strict=True)])


def uniform(key: Key, space: Space, population: int) -> chex.Array:
    """``f[P, D]``, uniform in the unit cube."""
    return jax.random.uniform(key, (population, spaces.size(space)))


def starting_points(
    key: Key, space: Space, population: int, initial: chex.Array | None
) -> chex.Array:
    """``f[P, D]``: the rows of ``initial``, moved into the unit cube, and then uniform ones.

    ``initial`` may be traced, for example the output of a network, so its values cannot be
    refused: entries that are not finite are drawn uniformly as well.
    """
    unit = uniform(key, space, population)
    if initial is None:
        return unit
    given = jnp.asarray(initial).astype(unit.dtype)
    known = given.shape[0]
    given = jnp.where(jnp.isfinite(given), jnp.clip(given, 0.0, 1.0), unit[:known])
    return unit.at[:known].set(given)


def inherited(space: Space, child: chex.Array, parent: chex.Array) -> chex.Array:
    """``f[P, D]``: children whose coordinates are their parents' where they are not active.

    Nothing selects these, so they would only drift.  Without a ``OneOf`` it is ``child`` itself.

    Example:
        >>> import metahpo as mh
        >>> one = mh.OneOf(svm={"C": mh.Float(0.0, 1.0)}, naive={})
        >>> child, parent = jnp.array([[0.25, 0.75], [0.75, 0.75]]), jnp.full((2, 2), 0.5)
        >>> inherited(one, child, parent).tolist()
        [[0.25, 0.75], [0.75, 0.5]]
    """
    if not spaces.is_conditional(space):
        return child
    return jnp.where(spaces.active(space, child), child, parent)


SCRATCH = Needs(trainings=False, budgets=False)
"""What strategies need whose members all train from scratch, for as long as the run says."""


def proposal(unit: chex.Array, parent: chex.Array | None = None, note: PyTree = ()) -> Proposal:
    """A proposal with the run's full budget; from scratch unless there are parents."""
    population = unit.shape[0]
    if parent is None:
        parent = jnp.full(population, -1, jnp.int32)
    return Proposal(unit, parent, jnp.full(population, FULL_BUDGET, jnp.int32), note)


def told(proposal: Proposal, evaluation: Evaluation) -> chex.Array:
    """``bool[P]``: whose losses are there: neither idle nor pending."""
    active = proposal.budget > 0
    # Whoever does not count steps has all losses.
    counted = jax.tree.leaves(evaluation.steps)
    return active & (counted[0] > 0) if counted else active


def finite_loss(evaluation: Evaluation, like: chex.Array) -> chex.Array:
    """``f[P]`` of ``like``'s type: the losses, ``inf`` where they are not finite."""
    loss = evaluation.loss.astype(like.dtype)
    return jnp.where(jnp.isfinite(loss), loss, jnp.inf)
