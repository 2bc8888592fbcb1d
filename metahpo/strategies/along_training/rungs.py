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


def check_population(name: str, population: int, steps: list[int], eta: int) -> int:
    """``population``; ``ValueError`` unless a bracket of it has a member in its last rung."""
    least = eta ** (len(steps) - 1)
    if not checks.is_whole(population) or population < least:
        raise ValueError(
            f"{name} with rungs of {steps} updates needs a population that is a whole number of at "
            f"least {least}, got {population}"
        )
    return int(population)


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
