"""The mixture of reparametrised gradients and evolution strategies: as precise as the better."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.base import Problem
from metahpo.hypergrad.es import es
from metahpo.hypergrad.mixture import mixture

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def smooth_and_rough():
    """Quadratic in ``x``, and in ``y`` with ripples of slopes up to 100 on a slope of 1."""
    return mh.problems.function(
        lambda h: (h["x"] - 1.0) ** 2 + 3.0 * h["x"] + h["y"] + 0.1 * jnp.sin(1e3 * h["y"])
    )


HPARAMS = {"x": 2.0, "y": 0.5}


def logistic_map():
    """``s <- r s (1 - s)`` at a rate where it is chaotic."""
    return Problem(
        sample=lambda key: None,
        init=lambda key, h, task: jnp.array(0.4),
        step=lambda key, h, task, s: h["r"] * s * (1 - s),
        loss=lambda key, h, task, s: s,
        describe=lambda task: jnp.zeros(0),
    )


def estimates(estimator, count, hparams=HPARAMS):
    run = jax.vmap(lambda key: estimator.estimate(key, hparams, None, ())[0])
    return jax.jit(run)(jax.random.split(KEY, count))


def test_every_coordinate_takes_the_more_precise_estimate():
    sigma, pairs = 0.3, 64
    result = estimates(mixture(smooth_and_rough(), 0, pairs, sigma), 400)
    # The ripples are smoothed away; what is left is the slope of the quadratic and of the line.
    for name, slope in {"x": 2 * (2.0 - 1.0) + 3.0, "y": 1.0}.items():
        spread = result.grad[name].std(ddof=1)
        assert abs(result.grad[name].mean() - slope) < 4 * spread / 20 + 1e-12
    weight = result.info["reparametrised_weight"]
    assert np.all(weight["x"] == 1.0)  # in antithetic pairs the quadratic is exact
    assert np.all(weight["y"] < 0.05)
    by_es = estimates(es(smooth_and_rough(), 0, pairs, sigma), 400).grad
    assert result.grad["x"].std() < 1e-12 < 0.1 < by_es["x"].std()
    assert 0.9 < result.grad["y"].std() / by_es["y"].std() < 1.02


def test_weights_are_the_shares_of_the_inverse_variances():
    cubic = mh.problems.function(lambda h: h["x"] ** 3)
    info = estimates(mixture(cubic, 0, 16, sigma=1.0), 5, {"x": 1.0}).info
    inverse = [1 / info[f"{name}_variance"]["x"] for name in ("reparametrised", "es")]
    for name, value in zip(("reparametrised", "es"), inverse, strict=True):
        np.testing.assert_allclose(info[f"{name}_weight"]["x"], value / sum(inverse), rtol=1e-9)
    np.testing.assert_allclose(
        info["es_weight"]["x"] + info["reparametrised_weight"]["x"], 1, rtol=1e-12
    )


def test_variances_are_those_of_the_two_estimates():
    """``x^3``: a pair's gradient is ``3 (x^2 + s^2 n^2)``, its slope ``3 x^2 n^2 + s^2 n^4``."""
    cubic = mh.problems.function(lambda h: h["x"] ** 3)
    x, s, pairs = 1.0, 0.5, 100
    info = estimates(mixture(cubic, 0, pairs, s), 2000, {"x": x}).info
    moments = {2: 1, 4: 3, 6: 15, 8: 105}  # of a standard normal
    by_grads = 9 * s**4 * (moments[4] - 1)
    slope = 9 * x**4 * moments[4] + 6 * x**2 * s**2 * moments[6] + s**4 * moments[8]
    by_losses = slope - (3 * x**2 + 3 * s**2) ** 2
    for name, value in (("reparametrised", by_grads), ("es", by_losses)):
        variance = info[f"{name}_variance"]["x"].mean() * pairs
        np.testing.assert_allclose(variance, value, rtol=0.05)


def test_standard_error_is_the_spread_and_the_bias_shrinks_with_the_pairs():
    """``d/dx E (x + s n)^3 = 3 (x^2 + s^2)``, which skewed samples and their weights miss."""
    cubic = mh.problems.function(lambda h: h["x"] ** 3)
    biases = []
    for pairs in (8, 128):
        result = estimates(mixture(cubic, 0, pairs, sigma=1.0), 4000, {"x": 1.0})
        biases.append(result.grad["x"].mean() - 6.0)
    assert abs(biases[0]) > 0.1  # real: ten times the error of this mean
    told = np.sqrt((result.info["standard_error"]["x"] ** 2).mean())
    np.testing.assert_allclose(told, result.grad["x"].std(), rtol=0.1)
    assert abs(biases[1]) < abs(biases[0]) / 8
    assert abs(biases[1]) < 0.3 * told


def test_a_chaotic_training_has_the_gradient_of_its_smoothed_loss():
    steps, sigma, hparams = 20, 0.01, {"r": 3.9}
    loss = jax.vmap(lambda r: mh.inner.outer_loss(logistic_map(), steps)(KEY, {"r": r}, None)[0])
    noise = np.linspace(-8, 8, 400_001)
    density = np.exp(-(noise**2) / 2) / np.sqrt(2 * np.pi) * (noise[1] - noise[0])
    exact = (jax.jit(loss)(3.9 + sigma * noise) * noise * density).sum() / sigma
    result = estimates(mixture(logistic_map(), steps, 4000, sigma), 1, hparams)
    grad, info = result.grad["r"], result.info
    error = info["standard_error"]["r"][0]
    assert abs(grad[0] - exact) < 4 * error
    assert error < 0.05 * info["reparametrised_variance"]["r"][0] ** 0.5
    assert abs(exact) > 4 * error


def test_a_gradient_that_is_not_finite_weighs_nothing():
    problem = mh.problems.function(lambda h: 2.0 * h["x"] ** 2 + jnp.sqrt(0.0 * h["x"]))
    assert np.isnan(jax.grad(lambda x: 2.0 * x**2 + jnp.sqrt(0.0 * x))(1.0))
    mixed, alone = (estimates(make(problem, 0, 32, 0.1), 3, {"x": 1.0}) for make in (mixture, es))
    np.testing.assert_allclose(mixed.grad["x"], alone.grad["x"], rtol=1e-12)
    error = alone.info["standard_error"]["x"]
    np.testing.assert_allclose(mixed.info["standard_error"]["x"], error, rtol=1e-12)
    assert np.all(mixed.info["reparametrised_weight"]["x"] == 0)
    assert np.all(mixed.info["es_weight"]["x"] == 1) and np.all(mixed.info["finite"])


def test_a_loss_that_is_not_finite_is_told():
    problem = mh.problems.function(lambda h: jnp.log(h["x"]))
    assert not np.any(estimates(mixture(problem, 0, 32, 1.0), 3, {"x": 0.1}).info["finite"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": 1}, "pairs must be a whole number of at least 2, got 1"),
        ({"sigma": -1.0}, "sigma must be positive, got -1.0"),
        ({"sigma": float("inf")}, "sigma must be positive and finite, got inf"),
        ({"checkpoint": "some"}, "checkpoint must be .*, got 'some'"),
    ],
)
def test_refuses_bad_arguments_with_rule_and_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        mixture(smooth_and_rough(), 1, **({"pairs": 2, "sigma": 0.1} | arguments))
