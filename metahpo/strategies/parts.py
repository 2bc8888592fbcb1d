"""What strategies share: checks of their arguments, starting points, proposals."""

from collections.abc import Collection

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import FULL_BUDGET, Evaluation, Key, Needs, Proposal, PyTree
from metahpo.space import Space


def check_population(name: str, population: int, at_least: int = 1) -> int:
    """``population``; ``ValueError`` unless it is a whole number of at least ``at_least``."""
    if not checks.is_whole(population) or population < at_least:
        raise ValueError(
            f"{name} needs a population that is a whole number of at least {at_least}, "
            f"got {population}"
        )
    return int(population)


def check_initial(space: Space, population: int, initial: chex.Array | None) -> None:
    """Raises ``ValueError`` unless ``initial`` is ``None`` or ``[K <= P, D]`` points of the cube.

    The values of a traced ``initial`` are not known; ``starting_points`` moves them into the cube.
    """
    if initial is None:
        return
    shape, size = jnp.shape(initial), spaces.size(space)
    if len(shape) != 2 or shape[1] != size:
        raise ValueError(f"initial must have shape [K, {size}] for this space, got {shape}")
    if shape[0] > population:
        raise ValueError(f"initial has {shape[0]} points, more than the population {population}")
    if not checks.known(initial):
        return
    outside = np.argwhere((np.asarray(initial) < 0) | (np.asarray(initial) > 1))
    if len(outside):
        row, column = outside[0]
        name = list(spaces.dimensions(space))[column]
        raise ValueError(
            f"initial must lie in the unit cube [0, 1]^{size}, got "
            f"{float(np.asarray(initial)[row, column])} for {name} in point {row}"
        )


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
