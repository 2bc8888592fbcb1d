"""Functions of the number of updates whose weights are learned."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks


class Curve(NamedTuple):
    """A number that changes along training, on the unconstrained scale of its link.

    Beyond the updates that it was made for it keeps its last value.

    Attributes:
        init: ``(start f[]) -> weights f[K]``, of the constant curve.
        value: ``(weights, count i32[]) -> f[]``, after ``count`` updates; linear in the weights.
    """

    init: Callable[[chex.Array], chex.Array]
    value: Callable[[chex.Array, chex.Array], chex.Array]


def per_step(steps: int) -> Curve:
    """A weight for each of ``steps`` updates.

    Example:
        >>> [float(per_step(2).value(jnp.array([3.0, 4.0]), t)) for t in (0, 1, 9)]
        [3.0, 4.0, 4.0]
    """
    steps = checks.whole("steps", steps)
    return Curve(
        lambda start: jnp.full(steps, start),
        lambda weights, count: weights[jnp.minimum(count, steps - 1)],
    )


def spline(steps: int, knots: int = 8) -> Curve:
    """A uniform cubic B-spline of ``knots`` weights over ``steps`` updates (de Boor 1978, ch. IX).

    Twice continuously differentiable, within the range of its weights, and each weight moves the
    curve over four of ``knots - 3`` segments only.

    Args:
        steps: updates from one end to the other.
        knots: weights, at least 4, which is one cubic polynomial.

    Example:
        >>> curve = spline(steps=11, knots=5)
        >>> [round(float(curve.value(jnp.arange(5.0), t)), 3) for t in (0, 5, 10)]
        [1.0, 2.0, 3.0]
    """
    knots = checks.whole("knots", knots, at_least=4)
    progress = _progress(steps)

    def value(weights: chex.Array, count: chex.Array) -> chex.Array:
        place = progress(count, weights) * (knots - 3)
        first = jnp.minimum(jnp.floor(place), knots - 4)
        u = place - first
        basis = jnp.stack(
            [
                (1 - u) ** 3,
                3 * u**3 - 6 * u**2 + 4,
                -3 * u**3 + 3 * u**2 + 3 * u + 1,
                u**3,
            ]
        )
        return basis @ jax.lax.dynamic_slice(weights, [first.astype(jnp.int32)], [4]) / 6

    return Curve(lambda start: jnp.full(knots, start), value)


def polynomial(steps: int, degree: int = 3) -> Curve:
    """A polynomial of the progress through ``steps`` updates, in Chebyshev's basis.

    Of a rate, whose link is the logarithm, degree 1 is exponential decay.

    Args:
        steps: updates from one end to the other.
        degree: of the polynomial, at least 0.

    Example:
        >>> [float(polynomial(5, 1).value(jnp.array([2.0, 1.0]), t)) for t in (0, 2, 4)]
        [1.0, 2.0, 3.0]
    """
    degree = checks.whole("degree", degree, at_least=0)
    progress = _progress(steps)

    def value(weights: chex.Array, count: chex.Array) -> chex.Array:
        x = 2 * progress(count, weights) - 1
        basis = [jnp.ones_like(x), x]
        while len(basis) <= degree:
            basis.append(2 * x * basis[-1] - basis[-2])
        return jnp.stack(basis[: degree + 1]) @ weights

    return Curve(lambda start: jnp.zeros(degree + 1).at[0].set(start), value)


def _progress(steps: int) -> Callable[[chex.Array, chex.Array], chex.Array]:
    """From 0 at the first update to 1 at the last."""
    steps = checks.whole("steps", steps)

    def progress(count: chex.Array, weights: chex.Array) -> chex.Array:
        return jnp.minimum(jnp.asarray(count, weights.dtype) / max(steps - 1, 1), 1.0)

    return progress
