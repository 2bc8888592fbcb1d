"""Forward mode along random directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def test_the_variance_of_random_directions_is_the_known_one():
    """With normal directions coordinate j has variance ``|g|^2 + g_j^2`` for one direction."""
    gradient = np.array([3.0, -1.0, 0.5, 0.0])
    problem = mh.problems.function(lambda h: h["x"] @ gradient)
    directions, repeats = 8, 4000
    estimator = mh.hypergrad.forward(problem, 0, directions=directions)
    estimates, _ = jax.jit(
        jax.vmap(lambda key: estimator.estimate(key, {"x": jnp.zeros(4)}, None, ()))
    )(jax.random.split(KEY, repeats))
    grads = np.asarray(estimates.grad["x"])
    variance = (gradient @ gradient + gradient**2) / directions
    assert np.all(np.abs(grads.mean(axis=0) - gradient) < 4 * np.sqrt(variance / repeats))
    np.testing.assert_allclose(grads.var(axis=0), variance, rtol=0.1)
    told = np.mean(np.asarray(estimates.info["standard_error"]["x"]) ** 2, axis=0)
    np.testing.assert_allclose(told, variance, rtol=0.1)


def test_one_direction_knows_nothing_of_its_error():
    estimator = mh.hypergrad.forward(mh.problems.function(lambda h: h["x"] ** 2), 0, directions=1)
    estimate, _ = estimator.estimate(KEY, {"x": jnp.array(3.0)}, None, ())
    assert np.isinf(estimate.info["standard_error"]["x"])


@pytest.mark.parametrize("directions", [0, -2])
def test_refuses_no_direction(directions):
    with pytest.raises(ValueError, match=f"at least 1 direction, got directions={directions}"):
        mh.hypergrad.forward(mh.problems.function(lambda h: h["x"]), 0, directions=directions)
