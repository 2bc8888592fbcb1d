"""Gradients shortened task by task, against arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.hypergrad import clipped, reverse

KEY = jax.random.key(0)


def of(gradient, norm):
    """The clipped estimate of a linear loss with this gradient."""
    linear = mh.problems.function(
        lambda h: sum(jnp.sum(h[k] * gradient[k]) for k in gradient) + 0.0 * h["count"]
    )
    hparams = {k: jnp.zeros_like(v) for k, v in gradient.items()} | {"count": jnp.int32(3)}
    return clipped(reverse(linear, 1), norm).estimate(KEY, hparams, None, ())[0]


def test_a_long_gradient_gets_the_norm_and_keeps_its_direction():
    found = of({"a": jnp.array(3.0), "b": jnp.array([0.0, 4.0])}, 1.0)
    np.testing.assert_allclose(found.grad["a"], 0.6, rtol=1e-6)
    np.testing.assert_allclose(found.grad["b"], [0.0, 0.8], rtol=1e-6)
    assert found.grad["count"] == 0 and found.grad["count"].dtype == jnp.int32
    assert found.info["clipped"] and found.info["grad_norm"] == 5.0


def test_a_short_gradient_is_returned_to_the_bit():
    gradient = {"a": jnp.array(0.3), "b": jnp.array([0.1, 0.7])}
    found = of(gradient, 1.0)
    for name, value in gradient.items():
        np.testing.assert_array_equal(found.grad[name], value)
    assert not found.info["clipped"]


def test_a_gradient_whose_square_overflows_is_clipped():
    found = of({"a": jnp.array(3e30), "b": jnp.array([4e30])}, 2.0)
    np.testing.assert_allclose([found.grad["a"], found.grad["b"][0]], [1.2, 1.6], rtol=1e-6)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_what_is_not_finite_stays_so(value):
    found = of({"a": jnp.array(value)}, 1.0)
    assert not jnp.isfinite(found.grad["a"]) and not found.info["finite"]


def test_one_chaotic_task_does_not_drown_the_others():
    """Of eight tasks one has a gradient of 1e6 against those of the others, which are 1."""
    mixed = mh.problems.function(lambda h: 0.0)._replace(
        sample=lambda key: jax.random.bernoulli(key, 1 / 8),
        loss=lambda key, h, wild, state: jnp.where(wild, -1e6, 1.0) * h["x"],
    )

    def learned(estimator):
        return mh.meta_train(
            KEY, mixed, estimator, {"x": jnp.array(0.0)}, optax.sgd(1.0), rounds=1, tasks=256
        ).hparams["x"]

    assert learned(clipped(reverse(mixed, 1), 1.0)) < -0.5
    assert learned(reverse(mixed, 1)) > 1e4


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_refuses_a_norm_that_is_not_positive(norm):
    with pytest.raises(ValueError, match="norm must be positive, got"):
        clipped(reverse(mh.problems.function(lambda h: h["x"]), 1), norm)
