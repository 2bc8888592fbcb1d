"""Forward mode along random directions."""

import closed_forms as forms
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
    with pytest.raises(ValueError, match=f"directions must be a whole number .* got {directions}"):
        mh.hypergrad.forward(mh.problems.function(lambda h: h["x"]), 0, directions=directions)


@pytest.mark.parametrize(("lr", "exploding"), [(0.4, False), (3.0, True)])
def test_the_explosion_exponent_is_how_the_tangents_grew(lr, exploding):
    a, start, steps = 1.1, 1.3, 20
    estimate, _ = mh.hypergrad.forward(forms.scalar_dynamics(), steps).estimate(
        KEY, forms.scalar_hparams(lr, start), jnp.array(a), ()
    )
    t = np.arange(steps + 1)  # the derivatives of (1 - a lr)^t start by lr and start
    norms = np.hypot(-a * t * (1 - a * lr) ** (t - 1.0) * start, (1 - a * lr) ** t)
    expected = np.log(norms.max() / norms[0] / steps) / steps
    np.testing.assert_allclose(estimate.info["explosion_exponent"], expected, rtol=1e-10)
    assert estimate.info["exploding"] == exploding


def test_growth_counts_from_the_first_derivative_that_is_not_zero():
    """Nothing depends on the hyperparameter before the fifth step, everything after grows."""

    def step(key, h, task, state):
        count, x = state
        return count + 1, 4.0 * x + jnp.where(count == 4, h["x"], 0.0)

    problem = forms.scalar_dynamics()._replace(
        init=lambda key, h, task: (0, jnp.ones(())), step=step, loss=lambda key, h, task, s: s[1]
    )
    for steps, growth in ((4, 0.0), (5, 0.0), (12, 7 * np.log(4.0)), (15, 10 * np.log(4.0))):
        estimate, _ = mh.hypergrad.forward(problem, steps).estimate(
            KEY, {"x": jnp.array(2.0)}, None, ()
        )
        expected = (growth - np.log(steps)) / steps
        np.testing.assert_allclose(estimate.info["explosion_exponent"], expected, rtol=1e-10)
        assert estimate.info["exploding"] == (growth - np.log(steps) > np.log(1e3))


def test_an_overflow_counts_as_exploding():
    estimate, _ = mh.hypergrad.forward(forms.scalar_dynamics(), 50).estimate(
        KEY, forms.scalar_hparams(1e30), jnp.array(1.0), ()
    )
    assert estimate.info["exploding"] and not estimate.info["finite"]
