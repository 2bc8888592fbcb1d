"""Gradients of the support loss for the ``gradient`` argument of the gradient-based learners."""

from collections.abc import Callable
from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Params

Gradient: TypeAlias = Callable[[Callable[[Params], chex.Array]], Callable[[Params], Params]]


def constant_gradient(loss: Callable[[Params], chex.Array]) -> Callable[[Params], Params]:
    """``jax.grad(loss)`` as a constant: reverse mode then gives the first-order meta-gradient.

    With it ``hypergrad.reverse`` of MAML is FOMAML (Finn et al. 2017, section 5.2).  Unlike
    ``hypergrad.first_order``, which takes the Jacobian of every step for the identity, it also
    serves losses that look at the parameters on the way, as MAML++'s multi-step loss does.

    Example:
        >>> import jax, metahpo as mh
        >>> family = mh.problems.sinusoid(shots=5)
        >>> problem = mh.meta.maml(family, 0.01, gradient=mh.meta.constant_gradient)
        >>> fomaml = mh.hypergrad.reverse(problem, steps=1)
    """
    return lambda params: jax.lax.stop_gradient(jax.grad(loss)(params))


def clipped_gradient(largest: chex.Numeric, gradient: Gradient = jax.grad) -> Gradient:
    """Gradients whose norm over all leaves is at most ``largest``; the direction stays.

    Args:
        largest: positive; may be traced.
        gradient: what is clipped, ``jax.grad``, ``mh.mixed_gradient`` or ``constant_gradient``.

    Returns:
        ``(loss) -> (params) -> gradient``.  A gradient whose squared norm is not finite becomes
        zero: where the support loss has overflowed, adaptation stops.

    Raises:
        ValueError: if ``largest`` is known and not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> clipped_gradient(0.5)(lambda p: 5.0 * p @ p)(jnp.array([0.0, 4.0])).tolist()
        [0.0, 0.5]
    """
    if checks.known(largest) and not largest > 0:
        raise ValueError(f"the largest norm of a gradient must be positive, got {largest}")

    def clipped(loss: Callable[[Params], chex.Array]) -> Callable[[Params], Params]:
        return lambda params: clip(gradient(loss)(params), largest)

    return clipped


def clip(grads: Params, largest: chex.Numeric) -> Params:
    """``grads`` scaled down to a norm of at most ``largest``, zero where its square overflows.

    The scale is a differentiable function of the gradient, with the slope 0 at a zero gradient.
    """
    # Both branches of a `where` are differentiated: neither a square nor the root may see
    # infinity, nor the root 0.
    safe = jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 0), grads)
    squares = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(safe))
    whole = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads)]).all()
    finite = whole & jnp.isfinite(squares)
    long = finite & (squares > jnp.square(largest))
    scale = jnp.where(long, largest / jnp.sqrt(jnp.where(long, squares, 1)), 1)
    return jax.tree.map(lambda leaf: jnp.where(finite, leaf * scale.astype(leaf.dtype), 0), safe)
