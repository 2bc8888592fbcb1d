"""Noise-reuse evolution strategies: one noise for an episode, and what that saves."""

import closed_forms as forms
import episodes
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.hypergrad.nres import nres
from metahpo.hypergrad.pes import pes

KEY = jax.random.key(0)
PAIRS = 20000


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def slanted_clock():
    """``-t (theta_1 - 2 theta_2 + theta_3 / 2)`` after ``t`` steps."""
    slope = jnp.array([1.0, -2.0, 0.5])
    return forms.clock()._replace(loss=lambda key, h, task, s: -s * (slope @ h["theta"]))


def estimates(make, problem, steps, window, theta):
    estimator, count = make(problem, steps, window, PAIRS, 0.1), -(-steps // window)
    return jax.jit(lambda: episodes.estimates(estimator, KEY, {"theta": theta}, count))()


@pytest.mark.parametrize(
    ("make_problem", "steps", "window", "theta"),
    [(slanted_clock, 8, 3, np.zeros(3)), (forms.influence_balancing, 65, 20, 0.5)],
)
def test_both_are_exact_on_average_and_of_known_variance(make_problem, steps, window, theta):
    """``(d + 1) |sum_v a_v|^2`` against ``d w sum_v |a_v|^2 + |sum_v a_v|^2`` in window ``w``.

    These are sums over the coordinates for one pair, with the influences ``a_v`` of the windows.
    """
    problem = make_problem()
    a = forms.window_influences(problem, steps, window, "window", theta)
    exact = a.sum(axis=1)
    a = a.reshape(*a.shape[:2], -1)
    # What a window's own noise explains is not the derivative of the sum.
    assert make_problem is slanted_clock or np.trace(a[..., 0]) < 0.5 * exact.sum()
    totals = {}
    for make in (nres, pes):
        result = estimates(make, problem, steps, window, theta)
        error = result.info["standard_error"]["theta"]
        assert np.all(np.abs(result.grad["theta"] - exact) < 4 * error)
        totals[make] = (error.reshape(len(a), -1) ** 2).sum(axis=1) * PAIRS
    number, size, total = np.arange(1, len(a) + 1), a.shape[2], (a.sum(axis=1) ** 2).sum(axis=1)
    np.testing.assert_allclose(totals[nres], (size + 1) * total, rtol=0.06)
    np.testing.assert_allclose(totals[pes], size * number * (a**2).sum((1, 2)) + total, rtol=0.06)
    assert totals[nres][0] == totals[pes][0] and np.all(totals[nres][1:] < 0.8 * totals[pes][1:])


def test_an_episode_adds_up_to_the_evolution_strategy_of_the_sum():
    """The same noise in every window: ``e (S(+) - S(-)) / 2 sigma`` of the summed losses."""
    problem, steps, window, sigma = forms.influence_balancing(), 17, 7, 0.3
    estimator = nres(problem, steps, window, pairs=1, sigma=sigma)

    def body(memory, key):
        estimate, memory = estimator.estimate(key, {"theta": 0.5}, None, memory)
        return memory, estimate.grad["theta"]

    @jax.jit
    def run():
        memory = estimator.init(KEY, {"theta": 0.5}, None)
        memory, grads = jax.lax.scan(body, memory, jax.random.split(KEY, 3))
        return grads.sum(), memory.noise[0, 0]

    def summed(theta):
        thetas = {"theta": jnp.full(3, theta)}
        return forms.window_losses(problem, steps, window, "window", thetas).sum()

    total, noise = run()
    slope = (summed(0.5 + sigma * noise) - summed(0.5 - sigma * noise)) / (2 * sigma)
    np.testing.assert_allclose(total, noise * slope, rtol=1e-10)


@pytest.mark.optimised
@pytest.mark.slow
def test_influence_balancing_ends_at_the_optimum():
    """A window of one step, 1,000 particles, sigma 0.1, SGD at 1e-4: published 6e-14."""
    losses = forms.influence_descent(nres, keys=4)
    assert np.all(losses[:, 0] > 7.5)
    # Exact gradients end at 2.2e-11; the noise of the one long episode scales the rate.
    assert np.all(losses[:, -1] < 1e-10)
