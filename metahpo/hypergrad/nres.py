"""Noise-reuse evolution strategies: persistent pairs that keep their noise for an episode."""

from collections.abc import Sequence

import chex
import jax.numpy as jnp

from metahpo.base import Estimator, Problem
from metahpo.hypergrad.particles import persistent


def nres(
    problem: Problem,
    steps: int | Sequence[int],
    window: int | Sequence[int],
    pairs: int,
    sigma: float,
    *,
    losses: str = "window",
    stagger: str = "none",
) -> Estimator:
    """Noise-reuse evolution strategies with antithetic pairs (Li et al. 2023, section 4).

    As ``pes``, but a pair keeps the noise that it drew at the beginning of its episode, and every
    window's loss is credited to that.  The estimates of the windows of an episode add up to the
    one that ``es`` would make of the sum of the window losses with the same noise.

    *Variance.*  Let the loss of window ``w``, at most quadratic, have the gradients ``a_1 ... a_w``
    by the ``d`` hyperparameters of each window so far.  The variances of all coordinates of one
    pair's estimate add up to ``(d + 1) |sum_v a_v|^2``, against
    ``d w sum_v |a_v|^2 + |sum_v a_v|^2`` for ``pes``: never more, and equal only if every window
    has the same influence.  The price: a pair explores a new direction only once an episode, so
    that few pairs in long episodes see few directions; stagger them.

    Args:
        problem: the training process; need not be differentiable.
        steps: updates in an episode, at least 0; one number, or one for each pair.
        window: updates in a window, at least 1; one number, or one for each pair.
        pairs: number of antithetic pairs, at least 1; an estimate costs ``2 pairs window`` updates.
        sigma: standard deviation of the perturbation, positive.
        losses: ``"window" | "step"``, see ``pes``.
        stagger: ``"none" | "even" | "random"``, see ``pes``.

    Returns:
        An Estimator with the memory, the quantity estimated and the ``info`` of ``pes``.

    Raises:
        ValueError: as ``pes``.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> problem = mh.problems.function(lambda h: 2.0 * h["x"])
        >>> estimator = mh.hypergrad.nres(problem, steps=3, window=2, pairs=4096, sigma=0.1)
        >>> estimate = jax.jit(estimator.estimate)
        >>> hparams, keys = {"x": jnp.array(3.0)}, jax.random.split(jax.random.key(0), 3)
        >>> memory = jax.jit(estimator.init)(keys[0], hparams, None)
        >>> first, memory = estimate(keys[1], hparams, None, memory)
        >>> last, memory = estimate(keys[2], hparams, None, memory)
        >>> bool(abs(first.grad["x"] + last.grad["x"] - 4.0) < 0.5)
        True
    """
    return persistent(_reuse, problem, steps, window, pairs, sigma, losses, stagger)


def _reuse(
    begins: chex.Array, fresh: chex.Array, carried: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """The noise of the episode's beginning perturbs every window and takes all the credit."""
    noise = jnp.where(begins, fresh, carried)
    return noise, noise
