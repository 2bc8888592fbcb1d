"""What a learned update rule sees of each parameter, in units that do not depend on the task."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

TIME_SCALES = (10.0, 30.0, 100.0, 300.0, 1000.0)
RELATIVE_FLOOR = 1e-8
"""Second moments are seen above this part of their tensor's mean: a parameter whose gradient is
zero (a dead or masked unit) then has a finite hypergradient instead of NaN."""
ABSOLUTE_FLOOR = 1e-20
"""For a tensor without any gradient; in float32 its power -3/2 is still finite."""


def per_parameter(
    grad: chex.Array, momenta: Sequence[chex.Array], second: chex.Array, param: chex.Array
) -> chex.Array:
    """Features ``f[F, n]`` of the ``n`` entries of one tensor, ``F = len(momenta) + 4``.

    Momenta and gradient relative to the root of the second moment (as Adam's direction is), the
    gradient relative to its tensor, the second moment relative to its tensor on a log scale, and
    the parameter relative to its tensor.  No feature changes when all gradients so far are
    multiplied by the same number, as long as they stay well above ``ABSOLUTE_FLOOR ** 0.5``.

    Args:
        grad: the gradient, any shape of ``n`` entries.
        momenta: bias-corrected running means of the gradient, with different decays.
        second: bias-corrected running mean of the squared gradient.
        param: the parameter.
    """
    mean = second.mean()
    floored = second + RELATIVE_FLOOR * mean + ABSOLUTE_FLOOR
    inverse_root = jax.lax.rsqrt(floored)
    rows = [
        *(momentum * inverse_root for momentum in momenta),
        grad * inverse_root,
        grad * jax.lax.rsqrt(jnp.square(grad).mean() + ABSOLUTE_FLOOR),
        0.25 * jnp.log(floored / (mean + ABSOLUTE_FLOOR)),
        param * jax.lax.rsqrt(jnp.square(param).mean() + ABSOLUTE_FLOOR),
    ]
    return jnp.stack([row.reshape(-1) for row in rows])


def per_tensor(
    count: chex.Array, momenta: Sequence[chex.Array], second: chex.Array, param: chex.Array
) -> chex.Array:
    """Features ``f[C]`` of one tensor, ``C = len(momenta) + len(TIME_SCALES) + 1``.

    How consistent the gradients have been (1 for equal ones, near 0 for noise), the scale of the
    parameter, and the number of updates on several time scales (Metz et al. 2020, appendix B).
    """
    mean = second.mean() + ABSOLUTE_FLOOR
    consistency = [jnp.square(momentum).mean() / mean for momentum in momenta]
    size = 0.1 * jnp.log(jnp.square(param).mean() + 1e-8)
    time = jnp.tanh(count.astype(param.dtype) / jnp.asarray(TIME_SCALES, dtype=param.dtype))
    return jnp.concatenate([jnp.stack([*consistency, size]), time])
