"""A complete estimator to start from: simultaneous perturbation stochastic approximation.

Copy it to metahpo/hypergrad/<name>.py and replace what the comments point at.
"""

import jax
import jax.numpy as jnp

from metahpo import checks, floats
from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, Task
from metahpo.diagnostics import gradient_info, no_memory
from metahpo.inner import outer_loss


# The problem and the number of inner steps come first.
def spsa(problem: Problem, steps: int, pairs: int, width: float) -> Estimator:
    """Two losses for a slope along a random corner of the cube (Spall 1992, equation 2.2).

    With ``d_i`` uniform in {-1, 1}^h over the floats of the hyperparameters,
    ``grad = mean_i d_i (loss(h + width d_i) - loss(h - width d_i)) / (2 width)``; dividing by an
    entry of ``d_i``, as the paper does, is multiplying by it.  The bias is of order ``width**2``.

    Args:
        problem: the training process; need not be differentiable.
        steps: number of inner updates, at least 0.
        pairs: number of pairs of trainings, at least 2, so that they tell their own error.
        width: length of a perturbation in every coordinate, positive.

    Returns:
        An Estimator without a memory, whose loss is the mean over all trainings.  ``info``:
        ``standard_error`` of every coordinate (a pytree like the hyperparameters), ``grad_norm``,
        ``finite``.

    Raises:
        ValueError: if ``steps`` is negative, ``pairs < 2`` or ``width <= 0``; when called, if no
            hyperparameter is a float.
    """
    # Static mistakes are refused here, with the rule and the value.
    pairs = checks.whole("pairs", pairs, at_least=2)
    checks.positive(width=width)
    # Training stands in metahpo.inner alone: outer_loss, unroll or advance.
    loss = outer_loss(problem, steps)

    def estimate(key: Key, hparams: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        # Only float leaves have a gradient; ravel makes them a vector and keeps the rest aside.
        flat, merge, gradient_tree = floats.ravel(hparams)
        # A key has one use: split it.
        corner_key, train_key = jax.random.split(key)
        corners = jax.random.rademacher(corner_key, (pairs, flat.size), flat.dtype)

        def pair(train_key: Key, corner: jax.Array) -> tuple[jax.Array, jax.Array]:
            # The same key on both sides, so that the noise of training cancels.
            sides = (flat + width * corner, flat - width * corner)
            above, below = (loss(train_key, merge(side), task)[0] for side in sides)
            return (above + below) / 2, corner * (above - below) / (2 * width)

        losses, slopes = jax.vmap(pair)(jax.random.split(train_key, pairs), corners)
        error = jnp.std(slopes, axis=0, ddof=1) / pairs**0.5
        grad = gradient_tree(slopes.mean(axis=0))
        # Diagnostics go to info; an estimator that trains once also gives its final "state" there.
        info = {"standard_error": gradient_tree(error), **gradient_info(losses.mean(), grad)}
        return Estimate(losses.mean(), grad, info), memory

    # An estimator that carries something from call to call returns it from its own init instead
    # of no_memory: (key, hparams, task) -> a pytree of arrays whose shapes never change.
    return Estimator(no_memory, estimate)
