"""What a trajectory was worth: returns, their estimates from values, and advantages.

All take what happened in ``T`` steps with leading axis ``[T]`` and the values of what each step led
to, ``next_value f[T]``, of ``trajectory.next_observation``.  After a termination nothing is to
come; at a truncation, and where the trajectory breaks off, its value stands for what would come.
So episodes may follow one another, as ``rollout`` has them (Pardo et al. 2018, "Time limits in
reinforcement learning").
"""

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.rl.environment import Transition
from metahpo.rl.rollout import Trajectory

Steps = Trajectory | Transition
"""Anything with ``reward``, ``terminated`` and ``truncated``, all ``[T]``."""


def td_errors(
    steps: Steps, value: chex.Array, next_value: chex.Array, discount: chex.Numeric
) -> chex.Array:
    """``r + discount v' - v``, without ``v'`` after a termination: ``f[T]``.

    Args:
        steps: what happened.
        value: ``f[T]`` of the observations.
        next_value: ``f[T]`` of what was seen next.
        discount: in [0, 1].

    Raises:
        ValueError: for a discount outside [0, 1], or shapes that differ.

    Example:
        >>> no = jnp.zeros(2, bool)
        >>> steps = Transition(-jnp.ones(2), jnp.array([False, True]), no)
        >>> td_errors(steps, jnp.ones(2), jnp.full(2, 2.0), 0.5)
        Array([-1., -2.], dtype=float32)
    """
    _check(steps, discount, value=value, next_value=next_value)
    return steps.reward + discount * jnp.where(steps.terminated, 0, next_value) - value


def discounted_returns(steps: Steps, next_value: chex.Array, discount: chex.Numeric) -> chex.Array:
    """The discounted sum of the rewards to the episode's end, or to where it is cut off.

    Args:
        steps: what happened.
        next_value: ``f[T]`` of what was seen next; zeros count only the rewards that were had.
        discount: in [0, 1].

    Returns:
        ``f[T]``.

    Raises:
        ValueError: for a discount outside [0, 1], or shapes that differ.

    Example:
        >>> no = jnp.zeros(3, bool)
        >>> discounted_returns(Transition(jnp.ones(3), no, no), jnp.full(3, 8.0), 0.5)
        Array([2.75, 3.5 , 5.  ], dtype=float32)
    """
    _check(steps, discount, next_value=next_value)
    cut = _cut(steps)
    beyond = jnp.where(cut & ~steps.terminated, next_value, 0)
    return _summed(steps.reward + discount * beyond, discount * ~cut)


def n_step_returns(
    steps: Steps, next_value: chex.Array, discount: chex.Numeric, n: int
) -> chex.Array:
    """The rewards of ``n`` steps, and the value of what comes then (Sutton & Barto 2018, 7.1).

    Args:
        steps: what happened.
        next_value: ``f[T]`` of what was seen next.
        discount: in [0, 1].
        n: at least 1; fewer where the episode ends, or the trajectory.

    Returns:
        ``f[T]``.

    Raises:
        ValueError: for ``n`` of 0, a discount outside [0, 1], or shapes that differ.

    Example:
        >>> no = jnp.zeros(3, bool)
        >>> n_step_returns(Transition(jnp.ones(3), no, no), jnp.full(3, 8.0), 0.5, n=2)
        Array([3.5, 3.5, 5. ], dtype=float32)
    """
    n = checks.whole("n", n)
    _check(steps, discount, next_value=next_value)
    one = steps.reward + discount * jnp.where(steps.terminated, 0, next_value)
    cut = _cut(steps)

    def longer(_: int, returns: chex.Array) -> chex.Array:
        return jnp.where(cut, one, steps.reward + discount * jnp.roll(returns, -1))

    return jax.lax.fori_loop(0, n - 1, longer, one)


def gae(
    steps: Steps,
    value: chex.Array,
    next_value: chex.Array,
    discount: chex.Numeric,
    decay: chex.Numeric,
) -> chex.Array:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16).

    Args:
        steps: what happened.
        value: ``f[T]`` of the observations.
        next_value: ``f[T]`` of what was seen next.
        discount: in [0, 1].
        decay: lambda in [0, 1]: 0 gives ``td_errors``, 1 ``discounted_returns`` minus ``value``.

    Returns:
        ``f[T]``; with ``value`` added, the lambda-returns.

    Raises:
        ValueError: for a discount or decay outside [0, 1], or shapes that differ.

    Example:
        >>> no = jnp.zeros(2, bool)
        >>> gae(Transition(jnp.ones(2), no, no), jnp.zeros(2), jnp.zeros(2), 0.5, 0.5)
        Array([1.25, 1.  ], dtype=float32)
    """
    checks.probability("decay", decay)
    errors = td_errors(steps, value, next_value, discount)
    return _summed(errors, discount * decay * ~_cut(steps))


def _cut(steps: Steps) -> chex.Array:
    """``bool[T]``: where nothing of the same episode follows."""
    return (steps.terminated | steps.truncated).at[-1].set(True)


def _summed(terms: chex.Array, keep: chex.Array) -> chex.Array:
    """``x_t = terms_t + keep_t x_(t + 1)``, from the end."""

    def add(later: chex.Array, now: tuple[chex.Array, chex.Array]) -> tuple[chex.Array, chex.Array]:
        term, kept = now
        new = term + kept * later
        return new, new

    return jax.lax.scan(add, jnp.zeros((), terms.dtype), (terms, keep), reverse=True)[1]


def _check(steps: Steps, discount: chex.Numeric, **values: chex.Array) -> None:
    checks.probability("discount", discount)
    shape = jnp.shape(steps.reward)
    if len(shape) != 1 or shape[0] < 1:
        raise ValueError(f"reward must be f[T] with at least one step, got shape {shape}")
    flags = {"terminated": steps.terminated, "truncated": steps.truncated}
    for name, array in (flags | values).items():
        if jnp.shape(array) != shape:
            raise ValueError(f"{name} must have the shape {shape} of reward, got {array.shape}")
