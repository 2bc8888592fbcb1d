"""Persistent evolution strategies: unbiased hypergradients from windows of a training."""

from collections.abc import Sequence

import chex
import jax.numpy as jnp

from metahpo.base import Estimator, Problem
from metahpo.hypergrad.particles import persistent


def pes(
    problem: Problem,
    steps: int | Sequence[int],
    window: int | Sequence[int],
    pairs: int,
    sigma: float,
    *,
    losses: str = "window",
    stagger: str = "none",
) -> Estimator:
    """Persistent evolution strategies with antithetic pairs (Vicol et al. 2021, Algorithm 2).

    An estimate advances each pair of trainings by one window only, yet is not biased by the cut:
    a pair draws new noise for every window, and the window's loss is credited to the *sum* of all
    noise since the episode began.  An update of the hyperparameters per window costs a fraction
    of a training, and the hyperparameters may change between windows.

    **What it estimates.**  An episode of ``steps`` updates has ``ceil(steps / window)`` windows;
    the last one is shorter where ``window`` does not divide ``steps``.  With the hyperparameters
    held fixed, the estimates of the windows of one episode *add up*, on average, to the gradient
    of the sum of the window losses, smoothed by a Gaussian: exact for losses that are quadratic
    in the hyperparameters.  Their mean is hence the gradient of the mean window loss, on the
    scale of one loss.  With ``window >= steps`` it is ``es``.

    The variance of a window's estimate grows with the window's number in the episode; ``nres``
    has never more for losses that are quadratic.

    Args:
        problem: the training process; need not be differentiable.
        steps: updates in an episode, at least 0; one number, or one for each pair.
        window: updates in a window, at least 1, an episode's length at most (a longer one counts
            as that); one number, or one for each pair.  All pairs cost the longest window, and
            the estimate is the mean over the pairs, each with episodes and windows of its own.
        pairs: number of antithetic pairs, at least 1; an estimate costs ``2 pairs window`` updates.
        sigma: standard deviation of the perturbation, positive, in the units of the
            hyperparameters: put them on comparable scales, such as logarithms, first.
        losses: ``"window"`` takes the outer loss after the window's last update; ``"step"`` the
            sum of the outer losses after each of its updates.
        stagger: where the pairs stand at first.  ``"none"``: all at the beginning, so that they
            stay at the same place of their episodes; ``"even"``: spread over the windows of an
            episode, so that every estimate sees all its parts; ``"random"``: a window of each
            pair's own (Li et al. 2023's step-unlocked workers).  ``init`` runs them there.

    Returns:
        An Estimator whose memory is a ``particles.Particles``: ``2 pairs`` training states, the
        noise, and the keys and the task of every pair.  An episode begins with the hyperparameters,
        task and key of the estimate that begins it, and stays with that task; the initial state is
        made from the perturbed hyperparameters.  The loss is the mean over all trainings of their
        window's loss.  ``info``: ``standard_error`` of every coordinate (infinite for one pair; of
        this estimate alone, as an episode's estimates depend on each other; a little too large
        where pairs differ by design), ``progress`` ``i32[pairs]`` (updates made in the episode),
        ``diverged`` ``i32[]``, ``grad_norm``, ``finite``, ``zero_grad``.

        A loss that is not finite is not left out, which would hide it and bias the estimate: the
        gradient is not finite either, ``finite`` is false, and ``diverged`` counts the pairs
        concerned.  They begin a new episode in the next window, so that the next estimate is
        sound again.

    Raises:
        ValueError: if ``steps`` is negative (or 0 with ``losses="step"``), ``window < 1``,
            ``pairs < 1``, ``sigma <= 0``, a sequence has not one entry for each pair, or a word
            is unknown; when called, if no hyperparameter is a float.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> problem = mh.problems.function(lambda h: 2.0 * h["x"])
        >>> estimator = mh.hypergrad.pes(problem, steps=3, window=2, pairs=4096, sigma=0.1)
        >>> estimate = jax.jit(estimator.estimate)
        >>> hparams, keys = {"x": jnp.array(3.0)}, jax.random.split(jax.random.key(0), 3)
        >>> memory = jax.jit(estimator.init)(keys[0], hparams, None)
        >>> first, memory = estimate(keys[1], hparams, None, memory)
        >>> last, memory = estimate(keys[2], hparams, None, memory)
        >>> bool(abs(first.grad["x"] + last.grad["x"] - 4.0) < 0.5)
        True
    """
    return persistent(_accumulate, problem, steps, window, pairs, sigma, losses, stagger)


def _accumulate(
    begins: chex.Array, fresh: chex.Array, carried: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """``xi_t = xi_{t-1} + eps_t``, with ``xi_0 = 0`` at the beginning of an episode."""
    return fresh, fresh + jnp.where(begins, 0, carried)
