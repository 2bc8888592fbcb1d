"""How promising a point is, of which a model gives the mean and the standard deviation.

Higher is better, of the objective and of the value: who minimises models the negative loss.  Each
is ``(mean f[M], std f[M], best f[]) -> f[M]``, differentiable everywhere, with ``best`` the highest
value so far.
"""

from collections.abc import Callable
from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr

from metahpo import checks

Acquisition: TypeAlias = Callable[[chex.Array, chex.Array, chex.Numeric], chex.Array]

_DIRECT, _FRACTION = -1.0, -5.0
_LOG_ROOT = 0.9189385332046727  # log(sqrt(2 pi))


def ei(mean: chex.Array, std: chex.Array, best: chex.Numeric) -> chex.Array:
    """Expected improvement (Mockus 1975; Jones, Schonlau & Welch 1998, equation 15).

    Far below ``best`` it is 0 in any float type, and so is its slope: ``log_ei`` is not.

    Example:
        >>> float(ei(jnp.array(0.0), jnp.array(1.0), 0.0)).__round__(4)
        0.3989
    """
    return std * jnp.exp(_log_h(_standardised(mean, std, best)))


def log_ei(mean: chex.Array, std: chex.Array, best: chex.Numeric) -> chex.Array:
    """The logarithm of ``ei``, however small that is (Ament, Daulton, Eriksson et al. 2023).

    Example:
        >>> round(float(log_ei(jnp.array(0.0), jnp.array(1.0), 40.0)), 2)
        -808.3
    """
    return jnp.log(std) + _log_h(_standardised(mean, std, best))


def pi(mean: chex.Array, std: chex.Array, best: chex.Numeric) -> chex.Array:
    """Probability of improvement (Kushner 1964).

    Example:
        >>> float(pi(jnp.array(0.0), jnp.array(1.0), 0.0))
        0.5
    """
    return ndtr(_standardised(mean, std, best))


def ucb(exploration: chex.Numeric = 2.0) -> Acquisition:
    """Upper confidence bound (Cox & John 1992; Srinivas et al. 2010).

    Args:
        exploration: standard deviations above the mean, at least 0; may be traced.

    Raises:
        ValueError: if ``exploration`` is negative.

    Example:
        >>> float(ucb(2.0)(jnp.array(1.0), jnp.array(0.5), 0.0))
        2.0
    """
    checks.at_least("exploration", exploration, 0)

    def bound(mean: chex.Array, std: chex.Array, best: chex.Numeric) -> chex.Array:
        del best
        return mean + exploration * std

    return bound


def _standardised(mean: chex.Array, std: chex.Array, best: chex.Numeric) -> chex.Array:
    return (mean - best) / std


@jax.custom_jvp
def _log_h(u: chex.Array) -> chex.Array:
    """``log h`` of ``h(u) = phi(u) + u Phi(u)``, the improvement expected of N(u, 1) over 0."""
    return _log_h_and_slope(u)[0]


@_log_h.defjvp
def _log_h_jvp(primals: tuple, tangents: tuple) -> tuple[chex.Array, chex.Array]:
    value, slope = _log_h_and_slope(*primals)
    return value, slope * tangents[0]


def _log_h_and_slope(u: chex.Array) -> tuple[chex.Array, chex.Array]:
    """``log h`` and ``Phi / h``, in three regimes none of which meets another's numbers."""
    direct = jnp.where(u > _DIRECT, u, 0.0)
    h = _density(direct) + direct * ndtr(direct)
    # h = phi (1 - t R) with Mills' ratio R = Phi(-t) / phi(t), by its logarithm ...
    t = jnp.where((u <= _DIRECT) & (u > _FRACTION), -u, -_DIRECT)
    log_ratio = jnp.log(t) + log_ndtr(-t) + t**2 / 2 + _LOG_ROOT
    rest = -jnp.expm1(log_ratio)
    # ... and where that is near 0, by its continued fraction 1 / (t + 1 / (t + 2 / (t + ...))).
    far = jnp.where(u <= _FRACTION, -u, -_FRACTION)
    tail = far
    for k in range(_terms(u.dtype), 1, -1):
        tail = far + k / tail
    log_rest = jnp.where(u > _FRACTION, jnp.log(rest), -jnp.log1p(far * tail))
    below = log_rest - u**2 / 2 - _LOG_ROOT
    slope = jnp.where(u > _FRACTION, jnp.exp(log_ratio) / (t * rest), tail)
    return (
        jnp.where(u > _DIRECT, jnp.log(h), below),
        jnp.where(u > _DIRECT, ndtr(direct) / h, slope),
    )


def _terms(dtype: chex.ArrayDType) -> int:
    """Of the continued fraction, for an error below the rounding from 5 on."""
    return 30 if dtype == jnp.float64 else 10


def _density(u: chex.Array) -> chex.Array:
    return jnp.exp(-(u**2) / 2 - _LOG_ROOT)


BY_NAME: dict[str, Acquisition] = {"log_ei": log_ei, "ei": ei, "pi": pi, "ucb": ucb()}
