"""Quadratics with a bounded spectrum: gradient descent whose best schedule is known.

Gradient descent with rates ``a_t`` on ``x'Ax / 2`` multiplies the error along an eigenvector of
eigenvalue ``l`` by the residual polynomial ``prod_t (1 - a_t l)``.  Its largest absolute value on
``[mu, L]`` is the worst-case error ratio, and the schedule that minimises it is Chebyshev's
(Young 1953; Flanders & Shortley 1950).
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metahpo import checks
from metahpo.base import Key, Problem, TaskFamily
from metahpo.problems.training import training
from metahpo.space import Float, Space


class Quadratic(NamedTuple):
    """One quadratic ``x'Ax / 2`` in the coordinates of its eigenvectors.

    Attributes:
        eigenvalues: ``f[n]``, ascending.
        start: ``f[n]``, the starting point in the basis of the eigenvectors, entries +1 or -1.
        basis: ``f[n, n]``, eigenvectors in columns; ``None`` when ``A`` is diagonal.
    """

    eigenvalues: chex.Array
    start: chex.Array
    basis: chex.Array | None


def quadratics(
    dimension: int = 256,
    mu: float = 1.0,
    kappa: float = 100.0,
    *,
    random: bool = False,
    rotated: bool = False,
    power: float = math.inf,
    log: bool = False,
) -> TaskFamily:
    """Quadratics with spectrum in ``[mu, kappa mu]``, both ends included; the minimum is 0 at 0.

    The starting point has entries of size 1 along every eigenvector, so that after any linear
    iteration ``max |x|`` in the basis of the eigenvectors *is* the worst-case error ratio
    ``|x_T| / |x_0|`` over all starting points.  The support loss is the quadratic, the query loss
    that ratio.

    Args:
        dimension: ``n``, at least 2.
        mu: the smallest eigenvalue, positive.
        kappa: the condition number, above 1.
        random: draw the eigenvalues between the ends log-uniformly for each task.  Otherwise every
            task has the same cosine grid, on which the maximum of a polynomial of degree ``T``
            is at least ``cos(pi T / (2 n - 2))`` of its maximum on the interval (Ehlich & Zeller
            1964): for 256 points and 20 steps the ratio is exact to 0.8 %.
        rotated: draw a random orthogonal basis for each task.  Gradient descent cannot tell, and a
            diagonal ``A`` costs ``n`` instead of ``n**2`` a step; but a rule that works on each
            coordinate by itself (Adam, most learned optimisers) solves a diagonal problem in a way
            that no rotated one allows.
        power: the query loss is the ``power``-norm of ``x``: ``inf`` is the ratio itself, a finite
            one is a smooth upper bound, at most ``n**(1 / power)`` times the ratio.
        log: the query loss is the logarithm of that.  Learned by gradients this is the one to
            take: a bad schedule reaches ratios of 1e20, whose gradients spoil the averages that
            an optimiser such as Adam keeps, for hundreds of rounds.

    Returns:
        A TaskFamily whose params are ``f[n]``, whose tasks are ``Quadratic`` and whose descriptor
        is the logarithms of both ends of the spectrum.

    Raises:
        ValueError: if ``dimension < 2``, ``mu <= 0``, ``kappa <= 1`` or ``power < 1``.

    Example:
        >>> import jax, metahpo as mh
        >>> family = mh.problems.quadratics(kappa=10.0)
        >>> task = family.sample(jax.random.key(0))
        >>> float(family.loss(family.init(jax.random.key(1), task), task, "query"))
        1.0
    """
    dimension = checks.whole("dimension", dimension, at_least=2)  # which holds both ends
    _check_spectrum(mu, kappa)
    if not power >= 1:
        raise ValueError(f"power must be at least 1 to give a norm, got {power}")
    ends = math.log(mu), math.log(kappa * mu)
    grid = _cosine_grid(dimension, mu, kappa * mu)

    def sample(key: Key) -> Quadratic:
        spectrum_key, start_key, basis_key = jax.random.split(key, 3)
        dtype = jnp.result_type(float)
        eigenvalues = jnp.asarray(grid, dtype)
        if random:
            logs = jax.random.uniform(spectrum_key, (dimension,), dtype, *ends)
            logs = jnp.sort(logs).at[jnp.array([0, -1])].set(jnp.array(ends, dtype))
            eigenvalues = jnp.exp(logs)
        start = jax.random.rademacher(start_key, (dimension,), dtype)
        basis = jax.random.orthogonal(basis_key, dimension, (), dtype) if rotated else None
        return Quadratic(eigenvalues, start, basis)

    def init(key: Key, task: Quadratic) -> chex.Array:
        del key
        return task.start if task.basis is None else task.basis @ task.start

    def loss(params: chex.Array, task: Quadratic, split: str) -> chex.Array:
        error = params if task.basis is None else params @ task.basis
        if split == "support":
            return jnp.sum(task.eigenvalues * error**2) / 2
        ratio = _norm(error, power)
        return jnp.log(ratio) if log else ratio

    def describe(task: Quadratic) -> chex.Array:
        return jnp.log(task.eigenvalues[jnp.array([0, -1])])

    return TaskFamily(sample, init, loss, describe)


def schedule_problem(family: TaskFamily, steps: int) -> Problem:
    """Gradient descent with one learning rate a step as hyperparameters.

    Args:
        family: what is trained, usually ``quadratics(...)``.
        steps: number of rates; further steps repeat the last one.

    Returns:
        A Problem with hyperparameters ``{"rates": [f[], ...]}``, a list of ``steps`` scalars as
        ``schedule_space`` decodes them, or one array ``f[steps]``.

    Raises:
        ValueError: if ``steps < 1``; inside the trace, if there is another number of rates.

    Example:
        >>> import jax, metahpo as mh
        >>> family = mh.problems.quadratics(kappa=10.0)
        >>> problem = mh.problems.schedule_problem(family, steps=10)
        >>> hparams = {"rates": mh.problems.chebyshev_rates(1.0, 10.0, 10)}
        >>> task = problem.sample(jax.random.key(0))
        >>> ratio, _ = mh.inner.outer_loss(problem, 10)(jax.random.key(1), hparams, task)
        >>> round(float(ratio), 5)
        0.00286
    """
    steps = checks.whole("steps", steps)

    def optimizer(hparams: dict[str, chex.Array]) -> optax.GradientTransformation:
        rates = jnp.stack(list(hparams["rates"]))
        if rates.shape != (steps,):
            raise ValueError(f"this schedule needs rates of shape ({steps},), got {rates.shape}")
        return optax.sgd(lambda count: rates[jnp.minimum(count, steps - 1)])

    return training(family, optimizer)


def schedule_space(steps: int, mu: float = 1.0, kappa: float = 100.0) -> Space:
    """The box for ``schedule_problem``: every rate between ``1 / L`` and ``1 / mu``, logarithmic.

    A rate outside never helps: its factor of the residual polynomial has no root in the spectrum.

    Example:
        >>> import metahpo as mh
        >>> mh.space.size(schedule_space(steps=20))
        20
    """
    _check_spectrum(mu, kappa)
    steps = checks.whole("steps", steps)
    return {"rates": [Float(1 / (kappa * mu), 1 / mu, log=True)] * steps}


def chebyshev_rates(mu: float, largest: float, steps: int) -> chex.Array:
    """The optimal rates ``f[steps]``: the inverse roots of the shifted Chebyshev polynomial.

    In exact arithmetic the order does not matter.  In floating point an unlucky one blows up on
    the way, so the roots come in Leja's order, each as far as possible from those before
    (Reichel 1990), which keeps the intermediate errors small.

    Example:
        >>> chebyshev_rates(1.0, 3.0, 1)
        Array([0.5], dtype=float32)
    """
    _check_spectrum(mu, largest / mu)
    steps = checks.whole("steps", steps)
    angles = np.pi * (2 * np.arange(steps) + 1) / (2 * steps)
    roots = (largest + mu) / 2 + (largest - mu) / 2 * np.cos(angles)
    return jnp.asarray(1 / _leja_order(roots), jnp.result_type(float))


def chebyshev_ratio(kappa: float, steps: int) -> float:
    """The worst-case error ratio of ``chebyshev_rates``: no schedule of ``steps`` rates is better.

    Example:
        >>> round(chebyshev_ratio(100, 20), 4)
        0.0361
    """
    return 1 / math.cosh(steps * math.acosh((kappa + 1) / (kappa - 1)))


def static_ratio(kappa: float, steps: int) -> float:
    """The worst-case error ratio of the best constant rate ``2 / (L + mu)``.

    Example:
        >>> round(static_ratio(100, 20), 3)
        0.67
    """
    return ((kappa - 1) / (kappa + 1)) ** steps


def _check_spectrum(mu: float, kappa: float) -> None:
    checks.positive(mu=mu, kappa=kappa)
    if not kappa > 1:
        raise ValueError(f"kappa must be above 1, got {kappa}")


def _cosine_grid(points: int, low: float, high: float) -> np.ndarray:
    grid = (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * np.arange(points) / (points - 1))
    grid[0], grid[-1] = low, high  # not an ulp beside them
    return grid


def _norm(error: chex.Array, power: float) -> chex.Array:
    largest = jnp.max(jnp.abs(error))
    if power == math.inf:
        return largest
    # Scaling by the maximum keeps the powers in range; as a constant it cancels in derivatives.
    scale = jax.lax.stop_gradient(jnp.where(largest > 0, largest, 1))
    return scale * jnp.sum(jnp.abs(error / scale) ** power) ** (1 / power)


def _leja_order(points: np.ndarray) -> np.ndarray:
    """The largest first, then always the one with the largest product of distances so far."""
    rest, order = list(points), []
    scores = np.log(np.abs(points))
    while rest:
        best = int(np.argmax(scores))
        order.append(rest.pop(best))
        scores = np.delete(scores, best) + np.log(np.abs(np.array(rest) - order[-1]))
    return np.array(order)
