"""Antithetic evolution strategies: a hypergradient from losses alone."""

from collections.abc import Callable

import jax

from metahpo import checks, floats
from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, Task
from metahpo.diagnostics import no_memory
from metahpo.hypergrad import antithetic
from metahpo.hypergrad.antithetic import over_members
from metahpo.inner import Training, advance, begin, judge_along, outer_loss


def es(
    problem: Problem, steps: int, pairs: int, sigma: float, *, window: int | None = None
) -> Estimator:
    """The gradient of the loss smoothed by a Gaussian (Salimans et al. 2017, section 2).

    With directions ``e_i ~ N(0, I)`` over the floats of the hyperparameters,
    ``grad = mean_i e_i (loss(h + sigma e_i) - loss(h - sigma e_i)) / (2 sigma)``: unbiased for
    the gradient of ``E loss(h + sigma e)``, hence exact on average for quadratic losses.  Needs no
    derivative of anything, and smoothing tames the chaotic losses of long trainings.

    Both members of a pair train with the same key (common random numbers), every pair with its
    own; the pairs are vmapped.

    Args:
        problem: the training process; need not be differentiable.
        steps: number of inner updates, at least 0.
        pairs: number of antithetic pairs, at least 1; the cost is ``2 pairs`` trainings.
        sigma: standard deviation of the perturbation, positive, in the units of the
            hyperparameters: put them on comparable scales, such as logarithms, first.
        window: takes the sum of the losses after every so many updates, and after the last one,
            in place of the loss after the last one alone: what ``pes`` and ``nres`` estimate in
            parts, with ``losses="window"``, or with ``losses="step"`` if it is 1.

    Returns:
        An Estimator without a memory, whose loss is the mean over all members.  ``info``:
        ``standard_error`` of every coordinate of the gradient (a pytree like the hyperparameters;
        infinite for a single pair, which says nothing about it), ``grad_norm``, ``finite``,
        ``zero_grad``.

    Raises:
        ValueError: if ``steps`` is negative, ``pairs < 1``, ``sigma <= 0`` or ``window < 1``;
            when called, if no hyperparameter is a float.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> problem = mh.problems.function(lambda h: 2.0 * h["x"])
        >>> estimator = mh.hypergrad.es(problem, steps=0, pairs=4096, sigma=0.1)
        >>> h = {"x": jnp.array(3.0)}
        >>> estimate, _ = jax.jit(estimator.estimate)(jax.random.key(0), h, None, ())
        >>> bool(abs(estimate.grad["x"] - 2.0) < 4 * estimate.info["standard_error"]["x"])
        True
    """
    pairs = antithetic.check(pairs, sigma)
    loss = _loss(problem, steps, window)

    def estimate(key: Key, hparams: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        flat, merge, gradient_tree = floats.ravel(hparams)
        noise_key, train_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, (pairs, flat.size), flat.dtype)

        def member(train_key: Key, point: jax.Array) -> jax.Array:
            return loss(train_key, merge(point), task)

        points = antithetic.members(flat, noise, sigma)
        losses = over_members(member, shared=1)(jax.random.split(train_key, pairs), points)
        samples = antithetic.slopes(noise, losses, sigma)
        return antithetic.summary(losses, samples, gradient_tree), memory

    return Estimator(no_memory, estimate, problem=problem, steps=steps)


def _loss(
    problem: Problem, steps: int, window: int | None
) -> Callable[[Key, HParams, Task], jax.Array]:
    """The outer loss, or the sum of those at the ends of all windows."""
    last = outer_loss(problem, steps)
    if window is None:
        return lambda key, hparams, task: last(key, hparams, task)[0]
    window = checks.whole("window", window)
    count, rest = divmod(steps, window)
    whole, shorter = advance(problem, window), advance(problem, rest)

    def run(key: Key, hparams: HParams, task: Task) -> jax.Array:
        def body(training: Training, _: None) -> tuple[Training, jax.Array]:
            training = whole(hparams, training)
            return training, judge_along(problem, hparams, training)

        training = begin(problem, key, hparams, task)
        training, losses = jax.lax.scan(body, training, length=count)
        if rest or not steps:
            training = shorter(hparams, training)
            return losses.sum() + judge_along(problem, hparams, training)
        return losses.sum()

    return run
