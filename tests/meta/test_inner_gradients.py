"""Clipped and constant inner gradients, values and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh


def quadratic(params):
    return 0.5 * params["a"] ** 2 + jnp.sum(params["b"] ** 2)


def test_long_gradients_keep_their_direction_and_short_ones_their_length():
    params = {"a": jnp.array(3.0), "b": jnp.array([2.0, 0.0])}  # gradient (3, 4, 0)
    long = mh.meta.clipped_gradient(1.0)(quadratic)(params)
    np.testing.assert_allclose([long["a"], *long["b"]], [0.6, 0.8, 0.0], rtol=1e-6)
    short = mh.meta.clipped_gradient(6.0)(quadratic)(params)
    assert [float(short["a"]), *short["b"].tolist()] == [3.0, 4.0, 0.0]


@pytest.mark.parametrize("at", [0.0, 0.3, 30.0])
def test_clipping_is_differentiable_as_finite_differences_say(at):
    with jax.enable_x64(True):
        clipped = mh.meta.clipped_gradient(1.0)(quadratic)

        def value(x):
            grads = clipped({"a": x, "b": jnp.array([x, 2 * x])})
            return grads["a"] + 3 * grads["b"][1]

        x, h = jnp.asarray(at), 1e-6
        slope = (value(x + h) - value(x - h)) / (2 * h)
        np.testing.assert_allclose(jax.grad(value)(x), slope, atol=1e-8)


@pytest.mark.parametrize("size", [1e25, 1e38])
def test_a_gradient_that_overflows_stops_adaptation(size):
    """In single precision: the square of its norm at 1e25, the gradient itself at 1e38."""
    clipped = mh.meta.clipped_gradient(1.0)(lambda p: 2 * jnp.sum(p**2))
    value, slope = jax.value_and_grad(lambda x: clipped(x).sum())(jnp.array([size, 1.0]))
    assert value == 0
    assert slope.tolist() == [0, 0]


def test_a_limit_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="positive, got 0"):
        mh.meta.clipped_gradient(0)


def test_constant_gradients_have_the_value_and_no_derivative():
    gradient = mh.meta.constant_gradient(lambda p: p**3)
    assert gradient(2.0) == 12.0
    assert jax.grad(gradient)(2.0) == 0.0
