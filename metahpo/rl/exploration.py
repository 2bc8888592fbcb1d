"""How an agent that values actions explores: the values in, the chances of the actions out.

An exploration is a function ``(values f[A], visits f[A] | None, time i32[]) -> f[A]``.  ``visits``
says how often each action was chosen in this state, which agents with tables count and networks do
not; ``time`` is the number of steps that the agent has made.  Rates are numbers, traced ones too,
or schedules of the time, as optax and ``metahpo.schedules`` make them.  Actions that are equally
good share a chance.
"""

from collections.abc import Callable
from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key

Explore: TypeAlias = Callable[[chex.Array, chex.Array | None, chex.Array], chex.Array]
Rate: TypeAlias = chex.Numeric | Callable[[chex.Array], chex.Array]
"""A number, or a schedule of the time."""


def rate_at(rate: Rate, time: chex.Numeric) -> chex.Array:
    """What a rate is at a time."""
    return jnp.asarray(rate(jnp.asarray(time)) if callable(rate) else rate)


def greedy_chances(values: chex.Array) -> chex.Array:
    """``f[A]``: the best actions, equally often.

    Example:
        >>> greedy_chances(jnp.array([1.0, 3.0, 3.0])).tolist()
        [0.0, 0.5, 0.5]
    """
    best = (values == values.max()).astype(values.dtype)
    return best / best.sum()


def epsilon_greedy(epsilon: Rate) -> Explore:
    """Any action with probability ``epsilon``, else the best (Sutton & Barto 2018, section 2.2).

    Args:
        epsilon: in [0, 1], or a schedule.

    Raises:
        ValueError: for a number outside [0, 1].

    Example:
        >>> epsilon_greedy(0.5)(jnp.array([1.0, 3.0]), None, 0).tolist()
        [0.25, 0.75]
    """
    if not callable(epsilon):
        checks.probability("epsilon", epsilon)

    def chances(values: chex.Array, visits: chex.Array | None, time: chex.Array) -> chex.Array:
        share = rate_at(epsilon, time).astype(values.dtype)
        return (1 - share) * greedy_chances(values) + share / len(values)

    return chances


def softmax(temperature: Rate) -> Explore:
    """Chances in proportion to ``exp(value / temperature)``.

    Args:
        temperature: above 0, or a schedule; in the units of the values.

    Raises:
        ValueError: for a number that is not positive.

    Example:
        >>> chances = softmax(1.0)(jnp.log(jnp.array([1.0, 3.0])), None, 0)
        >>> [round(float(chance), 2) for chance in chances]
        [0.25, 0.75]
    """
    if not callable(temperature):
        checks.positive(temperature=temperature)

    def chances(values: chex.Array, visits: chex.Array | None, time: chex.Array) -> chex.Array:
        return jax.nn.softmax(values / rate_at(temperature, time).astype(values.dtype))

    return chances


def upper_confidence(bonus: Rate) -> Explore:
    """UCB: the best value plus ``bonus * sqrt(log(t) / visits)``, at the t-th visit of the state.

    Actions that were never chosen come first (Auer et al. 2002; Sutton & Barto 2018, section 2.7).

    Args:
        bonus: at least 0, or a schedule; in the units of the values.

    Raises:
        ValueError: for a negative number; when called, if the agent counts no visits.

    Example:
        >>> visits = jnp.array([100.0, 1.0])
        >>> upper_confidence(1.0)(jnp.array([1.0, 0.0]), visits, 101).tolist()
        [0.0, 1.0]
    """
    if not callable(bonus):
        checks.at_least("bonus", bonus, 0)

    def chances(values: chex.Array, visits: chex.Array | None, time: chex.Array) -> chex.Array:
        if visits is None:
            raise ValueError("upper_confidence needs visits, which agents with tables count")
        logarithm = jnp.log(visits.sum() + 1)
        width = jnp.sqrt(logarithm / jnp.maximum(visits, 1)).astype(values.dtype)
        optimistic = values + rate_at(bonus, time).astype(values.dtype) * width
        return greedy_chances(jnp.where(visits > 0, optimistic, jnp.inf))

    return chances


def gaussian_noise(scale: Rate) -> Callable[[Key, chex.Array, chex.Array], chex.Array]:
    """Noise for actions on the unit cube, which it does not leave.

    Args:
        scale: its standard deviation, at least 0, or a schedule.

    Returns:
        ``(key, unit f[D], time) -> f[D]``, from the normal distribution around ``unit`` that is
        cut off at 0 and 1.

    Raises:
        ValueError: for a negative number.

    Example:
        >>> noisy = jax.jit(gaussian_noise(0.1))(jax.random.key(0), jnp.array([0.0, 1.0]), 0)
        >>> bool((noisy > 0).any()), bool(((noisy >= 0) & (noisy <= 1)).all())
        (True, True)
    """
    if not callable(scale):
        checks.at_least("scale", scale, 0)

    def noisy(key: Key, unit: chex.Array, time: chex.Array) -> chex.Array:
        width = rate_at(scale, time).astype(unit.dtype)
        safe = jnp.maximum(width, jnp.finfo(unit.dtype).tiny ** 0.5)
        drawn = jax.random.truncated_normal(key, -unit / safe, (1 - unit) / safe, dtype=unit.dtype)
        return jnp.clip(unit + width * drawn, 0, 1)

    return noisy


def draw(key: Key, chances: chex.Array) -> chex.Array:
    """The index ``i32[]`` of an action, with these chances."""
    return jax.random.categorical(key, jnp.log(chances)).astype(jnp.int32)
