"""Replacement: who lives on after the children have been evaluated.

A ``Replacement`` is ``(key, old Members, new Members) -> Members``.  How many it returns depends
only on the number of ``new`` ones.  The lowest loss is the best; among equals the new come first.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key


class Members(NamedTuple):
    """Points of the unit cube and their losses, finite or ``inf``."""

    unit: chex.Array  # f[N, D]
    loss: chex.Array  # f[N]


Replacement: TypeAlias = Callable[[Key, Members, Members], Members]


def generational(elites: int = 1) -> Replacement:
    """The children replace everyone, but the best old ones the worst children (De Jong 1975).

    An elite that is not better than the child whose place it would take is left out.

    Args:
        elites: 0 for a plain generation.

    Raises:
        ValueError: if ``elites`` is negative.

    Example:
        >>> old = Members(jnp.zeros((2, 1)), jnp.array([1.0, 5.0]))
        >>> new = Members(jnp.ones((2, 1)), jnp.array([2.0, 3.0]))
        >>> generational()(jax.random.key(0), old, new).loss.tolist()
        [2.0, 1.0]
    """
    elites = checks.whole("elites", elites, 0)

    def replace(key: Key, old: Members, new: Members) -> Members:
        del key
        if elites == 0:
            return new
        kept, worst = best(old, elites), jax.lax.top_k(new.loss, elites)[1]
        # The best elite meets the worst child, so that as many as possible get in.
        better = kept.loss < new.loss[worst]
        unit = jnp.where(better[:, None], kept.unit, new.unit[worst])
        loss = jnp.where(better, kept.loss, new.loss[worst])
        return Members(new.unit.at[worst].set(unit), new.loss.at[worst].set(loss))

    return replace


def plus(survivors: int | None = None) -> Replacement:
    """(mu + lambda): the best of old and new together (Schwefel 1981).

    Args:
        survivors: ``mu``, as many as there are children by default.

    Raises:
        ValueError: if ``survivors`` is below 1.

    Example:
        >>> old = Members(jnp.zeros((2, 1)), jnp.array([1.0, 5.0]))
        >>> new = Members(jnp.ones((2, 1)), jnp.array([2.0, 3.0]))
        >>> jax.jit(plus())(jax.random.key(0), old, new).loss.tolist()
        [1.0, 2.0]
    """
    if survivors is not None:
        survivors = checks.whole("survivors", survivors, 1)

    def replace(key: Key, old: Members, new: Members) -> Members:
        del key
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), new, old)
        return best(both, survivors or new.loss.shape[0])

    return replace


def comma(survivors: int) -> Replacement:
    """(mu, lambda): the best of the children only (Schwefel 1981).

    Args:
        survivors: ``mu``.

    Raises:
        ValueError: if ``survivors`` is below 1.

    Example:
        >>> old = Members(jnp.zeros((1, 1)), jnp.array([1.0]))
        >>> new = Members(jnp.ones((2, 1)), jnp.array([3.0, 2.0]))
        >>> comma(1)(jax.random.key(0), old, new).loss.tolist()
        [2.0]
    """
    survivors = checks.whole("survivors", survivors, 1)

    def replace(key: Key, old: Members, new: Members) -> Members:
        del key, old
        return best(new, survivors)

    return replace


def steady(replaced: int) -> Replacement:
    """A generation gap (De Jong 1975): the best children replace as many of the worst old ones.

    Args:
        replaced: how many; all other children are lost.

    Raises:
        ValueError: if ``replaced`` is below 1.

    Example:
        >>> old = Members(jnp.zeros((3, 1)), jnp.array([1.0, 5.0, 4.0]))
        >>> new = Members(jnp.ones((3, 1)), jnp.array([9.0, 7.0, 8.0]))
        >>> steady(1)(jax.random.key(0), old, new).loss.tolist()
        [1.0, 7.0, 4.0]
    """
    replaced = checks.whole("replaced", replaced, 1)

    def replace(key: Key, old: Members, new: Members) -> Members:
        del key
        chosen, worst = best(new, replaced), jax.lax.top_k(old.loss, replaced)[1]
        return jax.tree.map(lambda rows, row: rows.at[worst].set(row), old, chosen)

    return replace


def best(members: Members, count: int) -> Members:
    """The ``count`` members with the lowest losses, the best first; the earlier among equals."""
    if count > members.loss.shape[0]:
        raise ValueError(f"cannot keep {count} of {members.loss.shape[0]} members")
    order = jax.lax.top_k(-members.loss, count)[1]
    return jax.tree.map(lambda rows: rows[order], members)
