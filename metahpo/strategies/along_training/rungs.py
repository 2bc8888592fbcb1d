"""Rungs and brackets: how many members get how much training; all of it static."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import RoundSize


class Rung(NamedTuple):
    """A round of a bracket.

    Attributes:
        members: that train in it.
        steps: the updates of each by its end, those of earlier rungs included.
        granted: the updates of each in it.
    """

    members: int
    steps: int
    granted: int


Bracket = tuple[Rung, ...]


def fidelities(min_steps: int, max_steps: int, eta: int) -> list[int]:
    """The updates by the end of every rung: ``min_steps``, ``eta`` times as many, ...

    Raises:
        ValueError: unless the last of them is ``max_steps``, or for ``eta < 2``.

    Example:
        >>> fidelities(1, 81, eta=3)
        [1, 3, 9, 27, 81]
    """
    min_steps, max_steps = checks.counts(min_steps=min_steps, max_steps=max_steps)
    eta = checks.whole("eta", eta, at_least=2)
    found = [min_steps]
    while found[-1] < max_steps:
        found.append(found[-1] * eta)
    if found[-1] != max_steps:
        raise ValueError(
            f"max_steps must be min_steps times a power of eta, got max_steps={max_steps}, "
            f"min_steps={min_steps} and eta={eta}"
        )
    return found


def check_fits(name: str, population: int, steps: list[int], eta: int) -> None:
    """Raises ``ValueError`` if a bracket with one member in its last rung is too large."""
    least = eta ** (len(steps) - 1)
    if population < least:
        raise ValueError(
            f"{name} needs a population of at least {least}, so that the last of its {len(steps)} "
            f"rungs, of {steps} updates, has a member, got {population}"
        )


def bracket(members: int, steps: list[int], eta: int) -> Bracket:
    """A bracket that begins with so many members and keeps the best of ``eta`` after each rung.

    Example:
        >>> [(rung.members, rung.granted) for rung in bracket(34, [3, 9, 27, 81], eta=3)]
        [(34, 3), (11, 6), (3, 18), (1, 54)]
    """
    return tuple(
        Rung(members // eta**i, now, now - before)
        for i, (before, now) in enumerate(zip([0, *steps], steps, strict=False))
    )


def round_sizes(brackets: list[Bracket]) -> tuple[RoundSize, ...]:
    """What a run must be ready for; the most updates where there are as many members twice."""
    most: dict[tuple[int, bool], int] = {}
    for bracket in brackets:
        for rung in bracket:
            kind = rung.members, rung is bracket[0]
            most[kind] = max(rung.granted, most.get(kind, 0))
    return tuple(RoundSize(n, steps, scratch) for (n, scratch), steps in sorted(most.items()))


def best(loss: chex.Array, count: chex.Numeric) -> chex.Array:
    """``bool[P]``: the ``count`` members with the lowest losses, fewer if fewer are finite.

    The first of equal ones are taken.
    """
    order = jnp.argsort(loss, stable=True)
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(len(order)))
    return (rank < count) & jnp.isfinite(loss)
