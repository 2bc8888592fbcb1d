"""Rates whose optimum is known, recovered through the estimators that apply, in double precision.

Gradient descent on quadratics ``x'Ax / 2`` with a spectrum in [mu, L]: one step on one eigenvalue
``1 / h``, a constant rate in the worst case ``2 / (mu + L)``, heavy ball Polyak's pair, and rates
of their own for each step Chebyshev's.  ``quadratics`` starts at 1 along every eigenvector, so that
the largest entry at the end *is* the worst-case ratio.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo import learned_optimizers as lo

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def learned(rule, family, estimator, rounds, optimizer):
    """The numbers that an optax optimiser of the weights arrives at."""
    problem = mh.problems.training(family, rule.transform)
    result = mh.meta_train(
        KEY, problem, estimator(problem), rule.init(KEY), optimizer, rounds=rounds, tasks=1
    )
    return lo.learned_numbers(result.hparams), result


def bowl(h):
    """``h x^2 / 2`` from 1, judged by its value."""

    def loss(x, task, split):
        return h * x**2 / 2

    return mh.TaskFamily(lambda key: None, lambda key, task: jnp.ones(()), loss)


EXACT = {
    "reverse": lambda p: mh.hypergrad.reverse(p, 1),
    "forward": lambda p: mh.hypergrad.forward(p, 1),
    "truncated": lambda p: mh.hypergrad.truncated(p, 1, window=1),
    "one_step": lambda p: mh.hypergrad.one_step(p, 1),
}
SAMPLED = {
    "es": lambda p: mh.hypergrad.es(p, 1, pairs=64, sigma=1e-3),
    "pes": lambda p: mh.hypergrad.pes(p, 1, 1, pairs=64, sigma=1e-3),
    "nres": lambda p: mh.hypergrad.nres(p, 1, 1, pairs=64, sigma=1e-3),
}


@pytest.mark.parametrize("name", [*EXACT, *SAMPLED])
def test_one_step_on_a_bowl_wants_one_over_its_curvature(name):
    rule = lo.learnable(optax.sgd, {"learning_rate": 0.1})
    estimator = (EXACT | SAMPLED)[name]
    # Newton's rate on the logarithm of the rate: the loss is h (1 - h r)^2 / 2, and its second
    # derivative there h at r = 1 / h.
    numbers, _ = learned(rule, bowl(4.0), estimator, 60, optax.sgd(0.25))
    # The smoothed optimum is off by sigma^2, and estimates vanish with the gradient.
    np.testing.assert_allclose(numbers["learning_rate"], 0.25, rtol=1e-5 if name in EXACT else 1e-4)


def worst_case(**numbers):
    """SGD on the grid of a spectrum [1, 10], 8 steps, judged by the logarithm of the ratio."""
    family = mh.problems.quadratics(dimension=64, kappa=10.0, power=64.0, log=True)
    return lo.learnable(optax.sgd, numbers), family


def test_the_best_constant_rate_is_two_over_both_ends_of_the_spectrum():
    rule, family = worst_case(learning_rate=0.05)
    steps = 8
    numbers, result = learned(
        rule,
        family,
        lambda p: mh.hypergrad.reverse(p, steps),
        200,
        optax.adam(optax.cosine_decay_schedule(0.1, 200)),
    )
    np.testing.assert_allclose(numbers["learning_rate"], 2 / 11, rtol=3e-3)
    # The 64-norm is the maximum up to a factor 64^(1 / 64).
    assert 0 <= result.history.loss[-1] - np.log(mh.problems.static_ratio(10.0, steps)) < 0.066


def test_one_rate_a_step_is_chebyshevs_schedule():
    steps = 4
    family = mh.problems.quadratics(dimension=64, kappa=10.0, power=256.0, log=True)
    rule = lo.scheduled(optax.sgd, {"learning_rate": 0.15}, {"learning_rate": lo.per_step(steps)})
    weights = rule.init(KEY)
    spread = jnp.linspace(-0.5, 0.5, steps)  # equal rates have equal slopes, for ever
    start = {"learning_rate": weights["learning_rate"] + spread}
    problem = mh.problems.training(family, rule.transform)
    result = mh.meta_train(
        KEY,
        problem,
        mh.hypergrad.reverse(problem, steps),
        start,
        optax.adam(optax.cosine_decay_schedule(0.05, 500)),
        rounds=500,
        tasks=1,
    )
    rates = np.sort(np.exp(result.hparams["learning_rate"]))
    expected = np.sort(mh.problems.chebyshev_rates(1.0, 10.0, steps))
    np.testing.assert_allclose(rates, expected, rtol=0.02)
    best = np.log(mh.problems.chebyshev_ratio(10.0, steps))
    assert 0 <= result.history.loss[-1] - best < np.log(64) / 256 + 0.005


def test_heavy_ball_is_polyaks_pair_in_the_long_run():
    mu, largest = 1.0, 10.0
    roots = np.sqrt(largest), np.sqrt(mu)
    momentum, rate = ((roots[0] - roots[1]) / sum(roots)) ** 2, 4 / sum(roots) ** 2

    def ratio(numbers):
        """The spectral radius of the iteration, over the spectrum, which T steps converge to."""
        r, m = numbers["learning_rate"], numbers["momentum"]
        trace = 1 + m - r * jnp.linspace(mu, largest, 400)
        return jnp.max(jnp.sqrt(m) + 0 * trace), trace

    # At Polyak's pair both ends are critically damped and all between oscillate: |root| = sqrt(m).
    radius, trace = ratio({"learning_rate": rate, "momentum": momentum})
    np.testing.assert_allclose(trace[jnp.array([0, -1])] ** 2, 4 * momentum, rtol=1e-9)
    assert (trace[1:-1] ** 2 < 4 * momentum).all()

    steps = 60
    rule, family = worst_case(learning_rate=0.15, momentum=0.4)
    numbers, result = learned(
        rule,
        family,
        lambda p: mh.hypergrad.reverse(p, steps),
        300,
        optax.adam(optax.cosine_decay_schedule(0.03, 300)),
    )
    # At the critical pair the error is (1 + T c) sqrt(m)^T: T steps want a little more momentum.
    polyak = mh.problems.training(family, lambda h: optax.sgd(rate, momentum=momentum))
    at_polyak, _ = mh.inner.outer_loss(polyak, steps)(KEY, {}, family.sample(KEY))
    assert result.history.loss[-1] <= at_polyak
    assert result.history.loss[-1] >= steps * np.log(radius)
    np.testing.assert_allclose(numbers["learning_rate"], rate, rtol=0.1)
    np.testing.assert_allclose(numbers["momentum"], momentum, rtol=0.15)
