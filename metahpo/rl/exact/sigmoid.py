"""Sigmoid: follow several curves, each of which differs from episode to episode."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Key
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.exact.record import Exact
from metahpo.space import Choice, Float, Int

_STEPS = 10
_CENTRE, _SPREAD, _STEEPEST = 5.0, 2.5, 2.0


class Curve(NamedTuple):
    """``1 / (1 + exp(-slope (t - centre)))`` in each dimension, ``f[H]`` both."""

    centre: chex.Array
    slope: chex.Array


class SigmoidState(NamedTuple):
    """The curves, the time ``i32[]``, and the last actions ``i32[H]``, -1 before the first."""

    curve: Curve
    time: chex.Array
    action: chex.Array


def sigmoid(dimensions: int = 1, actions: int = 3) -> Exact:
    """Stays near a curve in each dimension (Biedenkapp et al. 2020, ECAI).

    The reward of one of the 10 steps is the product over the dimensions of 1 minus the distance
    between the curve and the action, both in [0, 1].  An episode's curves have centres from
    N(5, 2.5) and slopes from U(-2, 2); only who sees them gains by more than a static policy.

    Args:
        dimensions: 1 or more, 1 to 5 in the publication.
        actions: in each of them, at least 2.

    Returns:
        An ``Exact``, by quadrature over the curves of one dimension, as the dimensions do not know
        each other; the error is below 1e-4.  The best static policy is the best that does not look.

    Raises:
        ValueError: for less than 1 dimension or 2 actions.

    Example:
        >>> benchmark = sigmoid(dimensions=1, actions=2)
        >>> round(benchmark.optimal(), 3), round(benchmark.random(), 3)
        (8.298, 5.0)
    """
    dimensions = checks.whole("dimensions", dimensions)
    actions = checks.whole("actions", actions, at_least=2)

    def sample(key: Key) -> Curve:
        centre_key, slope_key = jax.random.split(key)
        centre = _CENTRE + _SPREAD * jax.random.normal(centre_key, (dimensions,))
        slope = jax.random.uniform(slope_key, (dimensions,), minval=-_STEEPEST, maxval=_STEEPEST)
        return Curve(centre, slope)

    def reset(key: Key, task: Curve) -> SigmoidState:
        del key
        return SigmoidState(task, jnp.int32(0), jnp.full(dimensions, -1, jnp.int32))

    def step(key: Key, state: SigmoidState, action: chex.Array) -> tuple[SigmoidState, Transition]:
        del key
        curve, time, _ = state
        height = jax.nn.sigmoid(curve.slope * (time - curve.centre))
        reward = (1 - jnp.abs(height - action / (actions - 1))).prod()
        state = SigmoidState(curve, time + 1, action.astype(jnp.int32))
        return state, Transition(reward, time + 1 >= _STEPS, jnp.array(False))

    def observe(state: SigmoidState) -> dict[str, chex.Array]:
        remaining = jnp.maximum(_STEPS - state.time, 0)
        return {"remaining": remaining, **state.curve._asdict(), "action": state.action}

    shape = (dimensions,)
    seen = {
        "remaining": Int(0, _STEPS),
        "centre": Float(_CENTRE - 10 * _SPREAD, _CENTRE + 10 * _SPREAD, shape=shape),
        "slope": Float(-_STEEPEST, _STEEPEST, shape=shape),
        "action": Int(-1, actions - 1, shape=shape),
    }
    environment = Environment(
        reset, step, observe, Choice(range(actions), shape=shape), seen, sample
    )
    # A step's reward is a product of independent factors, all at least 0: each is chosen alone.
    return Exact(
        environment,
        optimal=lambda: float((_means(actions)[0] ** dimensions).sum()),
        static=lambda: float((_means(actions)[1] ** dimensions).sum(axis=0).max()),
        random=lambda: float((_means(actions)[1].mean(axis=1) ** dimensions).sum()),
    )


def _means(actions: int) -> tuple[np.ndarray, np.ndarray]:
    """One factor's mean over the curves: with the best action ``f[T]``, with each ``f[T, A]``."""
    width = 8 * _SPREAD
    centre = np.linspace(_CENTRE - width, _CENTRE + width, 801)
    weight = np.exp(-0.5 * ((centre - _CENTRE) / _SPREAD) ** 2)
    slope = _STEEPEST * ((np.arange(200) + 0.5) / 100 - 1)
    weight = np.broadcast_to(weight / weight.sum() / len(slope), (len(slope), len(centre)))
    best, each = [], []
    for time in range(_STEPS):
        height = 1 / (1 + np.exp(-slope[:, None] * (time - centre)))
        factors = [1 - np.abs(height - a / (actions - 1)) for a in range(actions)]
        best.append((np.max(factors, axis=0) * weight).sum())
        each.append([(factor * weight).sum() for factor in factors])
    return np.array(best), np.array(each)
