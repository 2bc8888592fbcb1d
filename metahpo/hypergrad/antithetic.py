"""What the estimators that perturb hyperparameters in antithetic pairs share."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Estimate, HParams
from metahpo.diagnostics import gradient_info, standard_error


def check(pairs: int, sigma: float, least: int = 1) -> int:
    """``pairs``; a ``ValueError`` for too few of them, or a scale that is not positive."""
    checks.positive(sigma=sigma)
    return checks.whole("pairs", pairs, least)


def members(center: chex.Array, noise: chex.Array, sigma: float) -> chex.Array:
    """The points ``center +- sigma noise``: ``f[h], f[pairs, h] -> f[pairs, 2, h]``."""
    signs = jnp.array([1, -1], center.dtype)
    return center + sigma * signs[:, None] * noise[:, None, :]


def slopes(noise: chex.Array, losses: chex.Array, sigma: float) -> chex.Array:
    """Every pair's estimate of the gradient: ``f[pairs, h], f[pairs, 2] -> f[pairs, h]``.

    The slope along the noise by a central difference, times the noise (Salimans et al. 2017,
    section 2.1).
    """
    along = (losses[:, 0] - losses[:, 1]) / (2 * sigma)
    return noise * along.astype(noise.dtype)[:, None]


def summary(
    losses: chex.Array, samples: chex.Array, tree: Callable[[chex.Array], HParams]
) -> Estimate:
    """The mean over independent samples ``f[pairs, h]`` of the gradient, and its standard error.

    Args:
        losses: of all members; the estimate's loss is their mean.
        samples: one estimate of the gradient per pair.
        tree: turns ``f[h]`` into a pytree like the hyperparameters.
    """
    value, grad = jnp.mean(losses), tree(jnp.mean(samples, axis=0))
    info = {"standard_error": tree(standard_error(samples)), **gradient_info(value, grad)}
    return Estimate(value, grad, info)


def over_members(fn: Callable[..., chex.Array], shared: int) -> Callable[..., chex.Array]:
    """Maps ``fn`` over ``[pairs, 2]``: both members of a pair get the same first arguments.

    Args:
        fn: takes ``shared`` arguments of a pair, with leading axis ``[pairs]``, and then those of
            a member, with leading axes ``[pairs, 2]``.
        shared: how many arguments the members of a pair share, such as its training key.
    """

    def run(*args: chex.ArrayTree) -> chex.Array:
        axes = (None,) * shared + (0,) * (len(args) - shared)
        return jax.vmap(jax.vmap(fn, axes))(*args)

    return run
