"""Selection: which members become parents.

A ``Selection`` is ``(key, loss f[N], count) -> i32[count]``, the indices of the parents, drawn
independently of each other unless it says otherwise.  The lowest loss is the best; losses are
finite or ``inf``.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, draws
from metahpo.base import Key

Selection: TypeAlias = Callable[[Key, chex.Array, int], chex.Array]


def tournament(size: int = 2, *, replacement: bool = True) -> Selection:
    """The best of ``size`` random members (Goldberg & Deb 1991).

    With replacement, the member of rank ``i`` of ``N`` (0 is the best) wins with probability
    ``((N - i)^size - (N - i - 1)^size) / N^size``.  Without, the population is shuffled and cut
    into tournaments as often as it takes, so that members meet only others and each takes part
    equally often (up to ``N mod size``); the probability is
    ``C(N - i - 1, size - 1) / C(N, size)``.  Among equals chance decides.

    Args:
        size: members in a tournament, at least 1; 1 is uniform selection.
        replacement: whether a member can stand twice in a tournament.

    Raises:
        ValueError: if ``size`` is below 1, or, when it selects, without replacement above ``N``.

    Example:
        >>> select = jax.jit(tournament(3, replacement=False), static_argnums=2)
        >>> select(jax.random.key(0), jnp.array([2.0, 0.5, 1.0]), 4).tolist()
        [1, 1, 1, 1]
    """
    size = checks.whole("size", size)

    def select(key: Key, loss: chex.Array, count: int) -> chex.Array:
        draw = drawn_again if replacement else shuffled
        contenders = draw(key, loss.shape[0], size, count)
        winner, lowest = contenders[0], loss[contenders[0]]
        for other in contenders[1:]:  # a few: cheaper than an argmin along a short axis
            value = loss[other]
            winner = jnp.where(value < lowest, other, winner)
            lowest = jnp.minimum(value, lowest)
        return winner

    return select


def drawn_again(key: Key, population: int, size: int, count: int) -> chex.Array:
    """``i32[size, count]``: the contenders of ``count`` tournaments, all independent."""
    return draws.integers(key, (size, count), population)


def shuffled(key: Key, population: int, size: int, count: int) -> chex.Array:
    """``i32[size, count]``: tournaments cut from shuffled populations (Goldberg et al. 1989)."""
    if size > population:
        raise ValueError(
            f"a tournament without replacement needs at most as many members as there are, "
            f"got {size} of {population}"
        )
    tournaments = population // size
    shuffles = math.ceil(count / tournaments)
    order = jnp.argsort(draws.words(key, (shuffles, population))[0], axis=1)
    cut = order[:, : tournaments * size].reshape(shuffles, size, tournaments)
    return cut.transpose(1, 0, 2).reshape(size, shuffles * tournaments)[:, :count]


def truncation(share: float = 0.5) -> Selection:
    """Uniform among the best ``share`` of the members (Muehlenbein & Schlierkamp-Voosen 1993).

    With ``replacement.generational()`` this is (mu, lambda) selection with ``mu = share * N``.

    Args:
        share: in (0, 1]; at least one member.

    Raises:
        ValueError: if ``share`` is out of range.

    Example:
        >>> loss = jnp.array([3.0, 1.0, 2.0, jnp.inf])
        >>> select = jax.jit(truncation(0.25), static_argnums=2)
        >>> set(select(jax.random.key(0), loss, 9).tolist())
        {1}
    """
    checks.share("the share of truncation selection", share)

    def select(key: Key, loss: chex.Array, count: int) -> chex.Array:
        kept = math.ceil(share * loss.shape[0])
        best = jax.lax.top_k(-loss, kept)[1]
        return best[draws.integers(key, (count,), kept)]

    return select


def ranking(pressure: chex.Numeric = 2.0) -> Selection:
    """Linear ranking (Baker 1985): probability falls linearly with the rank.

    The member of rank ``i`` of ``N`` (0 is the best) has the probability
    ``(s - 2 (s - 1) i / (N - 1)) / N``.

    Args:
        pressure: ``s`` in [1, 2], the expected number of times that the best is drawn in ``N``
            draws; may be traced.

    Raises:
        ValueError: if ``pressure`` is out of range.

    Example:
        >>> loss = jnp.array([3.0, 1.0])  # with s = 2 the worst is never drawn
        >>> select = jax.jit(ranking(2.0), static_argnums=2)
        >>> set(select(jax.random.key(0), loss, 9).tolist())
        {1}
    """
    checks.numbers(pressure=pressure)
    if checks.known(pressure) and not 1 <= pressure <= 2:
        raise ValueError(f"the pressure of linear ranking must be in [1, 2], got {pressure}")

    def select(key: Key, loss: chex.Array, count: int) -> chex.Array:
        population = loss.shape[0]
        rank = jnp.arange(population) / max(population - 1, 1)
        order = jnp.argsort(loss)
        return order[spin(key, pressure - 2 * (pressure - 1) * rank, count)]

    return select


def roulette() -> Selection:
    """Fitness proportional (Holland 1975), the fitness being the lead over the worst finite loss.

    The worst finite member and the failed ones are thus never drawn, unless all are equal: then
    all that have not failed are equally likely, and if all failed, all.

    Example:
        >>> loss = jnp.array([3.0, 1.0, jnp.inf])
        >>> select = jax.jit(roulette(), static_argnums=2)
        >>> set(select(jax.random.key(0), loss, 9).tolist())
        {1}
    """

    def select(key: Key, loss: chex.Array, count: int) -> chex.Array:
        finite = jnp.isfinite(loss)
        # Scaled down, neither a difference overflows nor the inverse of one underflows.
        small = jnp.where(finite, loss / 16, 0.0)
        worst = jnp.max(small, initial=-jnp.inf, where=finite)
        lead = jnp.where(finite, worst - small, 0.0)
        largest = lead.max()
        flat = jnp.where(finite.any(), finite, True).astype(loss.dtype)
        fitness = jnp.where(largest > 0, lead / jnp.where(largest > 0, largest, 1.0), flat)
        return spin(key, fitness, count)

    return select


def spin(key: Key, weight: chex.Array, count: int) -> chex.Array:
    """``i32[count]``: indices drawn with probabilities proportional to ``weight``."""
    wheel = jnp.cumsum(weight)
    stop = draws.uniform(key, (count,)) * wheel[-1]
    # "right" never stops at a member of weight 0; the minimum guards against rounding.
    index = jnp.searchsorted(wheel, stop, side="right")
    return jnp.minimum(index, weight.shape[0] - 1).astype(jnp.int32)
