"""Persistent evolution strategies: the sum of the noise, while the hyperparameters move."""

import closed_forms as forms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo import hypergrad
from metahpo.hypergrad.pes import pes

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def test_hyperparameters_may_move_within_an_episode():
    """The gradient is by a shift of all thetas so far, each where it was in its window."""
    problem, thetas = forms.influence_balancing(), jnp.array([0.5, -0.3, 0.1])
    estimator = pes(problem, 50, 20, pairs=4000, sigma=0.5)

    def body(memory, x):
        key, theta = x
        estimate, memory = estimator.estimate(key, {"theta": theta}, None, memory)
        return memory, (estimate.grad["theta"], estimate.info["standard_error"]["theta"])

    def run():
        memory = estimator.init(KEY, {"theta": thetas[0]}, None)
        return jax.lax.scan(body, memory, (jax.random.split(KEY, 3), thetas))[1]

    grad, error = jax.jit(run)()

    def shifted(shift):
        return forms.window_losses(problem, 50, 20, "window", {"theta": thetas + shift})

    expected = jax.jacobian(shifted)(0.0)
    unmoved = forms.window_influences(problem, 50, 20, "window", 0.5).sum(axis=1)
    assert np.all(np.abs(grad - expected) < 4 * error)
    assert np.any(np.abs(grad - unmoved) > 6 * error)


@pytest.mark.slow
def test_influence_balancing_ends_at_the_optimum():
    """A window of one step, 1,000 particles, sigma 0.1, SGD at 1e-4: published 4e-11."""
    losses = forms.influence_descent(pes, keys=4)
    assert np.all(losses[:, 0] > 7.5)
    # Exact gradients end at 2.2e-11; what is left is the random walk of 2,000 noisy steps.
    assert np.exp(np.log(losses[:, -1]).mean()) < 1e-10


@pytest.mark.parametrize("window", [1, 20, 40])
def test_truncation_goes_the_wrong_way_where_persistent_pairs_arrive(window):
    estimator = hypergrad.truncated(forms.influence_balancing(), 100, window)

    def body(theta, key):
        estimate, _ = estimator.estimate(key, {"theta": theta}, None, ())
        return theta - 1e-4 * estimate.grad["theta"], estimate.loss

    _, losses = jax.jit(lambda: jax.lax.scan(body, 0.5, jax.random.split(KEY, 300)))()
    assert np.all(np.diff(losses) > 0) and losses[-1] > 8.2
