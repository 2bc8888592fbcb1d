"""Antithetic evolution strategies as an estimator: unbiased, and honest about its error."""

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


def cubic():
    return mh.problems.function(lambda h: h["x"] ** 3 - 2.0 * h["x"] * h["y"][0])


HPARAMS = {"x": 1.5, "y": np.array([0.5, 3.0])}


def estimates(estimator, count):
    run = jax.vmap(lambda key: estimator.estimate(key, HPARAMS, None, ())[0])
    return jax.jit(run)(jax.random.split(KEY, count))


def test_mean_is_the_gradient_of_the_smoothed_loss():
    """``d/dx E (x + sigma e)^3 = 3 (x^2 + sigma^2)``: the smoothing shows at this sigma."""
    sigma, count = 0.8, 4000
    grad = estimates(mh.hypergrad.es(cubic(), 0, pairs=4, sigma=sigma), count).grad
    expected = {"x": 3 * (1.5**2 + sigma**2) - 2.0 * 0.5, "y": np.array([-3.0, 0.0])}
    for name, value in expected.items():
        error = grad[name].std(axis=0) / np.sqrt(count)
        assert np.all(np.abs(grad[name].mean(axis=0) - value) < 4 * error)
        assert np.all(error < 0.15)


def test_standard_error_is_the_spread_of_repeated_estimates():
    result = estimates(mh.hypergrad.es(cubic(), 0, pairs=64, sigma=0.1), 1000)
    for name in HPARAMS:
        spread = result.grad[name].std(axis=0, ddof=1)
        told = np.sqrt((result.info["standard_error"][name] ** 2).mean(axis=0))
        np.testing.assert_allclose(told, spread, rtol=0.1)


def test_a_pair_trains_with_the_same_key_so_additive_noise_cancels():
    noisy = cubic()
    noisy = noisy._replace(
        loss=lambda key, h, task, state: (
            cubic().loss(key, h, task, state) + 1e3 * jax.random.normal(key)
        )
    )
    with_noise, without = (
        estimates(mh.hypergrad.es(problem, 0, pairs=8, sigma=0.1), 2)
        for problem in (noisy, cubic())
    )
    np.testing.assert_allclose(with_noise.grad["x"], without.grad["x"], rtol=1e-9)
    assert np.all(np.abs(with_noise.loss - without.loss) > 1.0)  # the noise itself was there


def test_pairs_train_with_different_keys():
    """The mean of 400 noisy losses has a twentieth of the noise of one."""
    noisy = cubic()._replace(loss=lambda key, h, task, state: 0.0 * h["x"] + jax.random.normal(key))
    loss = estimates(mh.hypergrad.es(noisy, 0, pairs=400, sigma=0.1), 500).loss
    np.testing.assert_allclose(loss.std(), 1 / np.sqrt(400), rtol=0.15)


def test_a_single_pair_knows_nothing_of_its_error():
    error = estimates(mh.hypergrad.es(cubic(), 0, pairs=1, sigma=0.1), 2).info["standard_error"]
    assert np.all(np.isinf(error["x"])) and np.all(np.isinf(error["y"]))


def test_a_loss_without_derivatives_will_do():
    steps = mh.problems.function(lambda h: jnp.floor(100.0 * h["x"]) / 100.0 + 0.0 * h["y"][0])
    estimate = estimates(mh.hypergrad.es(steps, 0, pairs=3000, sigma=0.5), 1)
    error = estimate.info["standard_error"]["x"][0]
    assert abs(estimate.grad["x"][0] - 1.0) < 4 * error < 0.2


@pytest.mark.parametrize(("steps", "window"), [(17, 5), (4, 1)])
def test_windows_sum_the_losses_at_their_ends(steps, window):
    """At a tiny sigma every member's loss is the unperturbed one: no noise is in the way."""
    problem, theta = forms.influence_balancing(), jnp.array(0.5)
    estimator = mh.hypergrad.es(problem, steps, pairs=1, sigma=1e-13, window=window)
    run = jax.jit(lambda: estimator.estimate(KEY, {"theta": theta}, None, ())[0].loss)
    count = -(-steps // window)
    thetas = {"theta": jnp.full(count, theta)}
    expected = forms.window_losses(problem, steps, window, "window", thetas)
    np.testing.assert_allclose(run(), jnp.sum(expected), rtol=1e-9)


def test_windows_have_the_derivative_of_the_sum():
    problem = forms.influence_balancing()
    estimator = mh.hypergrad.es(problem, 65, pairs=4000, sigma=2.0, window=20)
    estimate = jax.jit(lambda: estimator.estimate(KEY, {"theta": jnp.array(0.5)}, None, ())[0])()
    expected = forms.window_influences(problem, 65, 20, "window", 0.5).sum()
    error = estimate.info["standard_error"]["theta"]
    assert abs(estimate.grad["theta"] - expected) < 4 * error < 0.1 * expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": 0, "sigma": 0.1}, "pairs must be a whole number of at least 1, got 0"),
        ({"pairs": 1, "sigma": 0.0}, "sigma must be positive, got 0.0"),
        ({"pairs": 1, "sigma": float("nan")}, "sigma must be positive, got nan"),
        ({"pairs": 1, "sigma": 0.1, "window": 0}, "window must be a whole number .*, got 0"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        mh.hypergrad.es(cubic(), 1, **arguments)
