"""A masked network is a network of that width: values, gradients, training and initial scale."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metahpo.problems.masked_mlp import Layer, MaskedMLP

LARGE = MaskedMLP(inputs=3, max_width=8, outputs=2, activations=("relu", "tanh"))
SMALL = MaskedMLP(inputs=3, max_width=5, outputs=2, activations=("relu", "tanh"))
X = jax.random.normal(jax.random.key(1), (6, 3))
Y = jax.random.normal(jax.random.key(2), (6, 2))


def cut(params):
    """The first five hidden units."""
    first, second = params
    return Layer(first.kernel[:, :5], first.bias[:5]), Layer(second.kernel[:5], second.bias)


def train(network, params, width, activation):
    optimizer = optax.adamw(0.05, weight_decay=0.1)
    state = optimizer.init(params)

    def loss(params):
        return jnp.mean((network.apply(params, X, width, activation) - Y) ** 2)

    for _ in range(5):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
    return params, loss(params)


@pytest.mark.slow
@pytest.mark.parametrize("activation", [0, 1])
def test_training_equals_that_of_a_network_of_that_width(activation):
    start = LARGE.init(jax.random.key(0), 5)
    masked, masked_loss = train(LARGE, start, 5, activation)
    small, small_loss = train(SMALL, cut(start), 5, activation)
    np.testing.assert_allclose(masked_loss, small_loss, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), cut(masked), small)
    assert (np.asarray(masked[1].kernel[5:]) == 0).all()


def test_the_activation_is_the_one_named():
    params = LARGE.init(jax.random.key(0), 8)
    first, second = params
    for index, function in enumerate((jax.nn.relu, jnp.tanh)):
        expected = function(X @ first.kernel + first.bias) @ second.kernel + second.bias
        np.testing.assert_allclose(LARGE.apply(params, X, 8, index), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("width", [4, 64])
def test_initial_outputs_have_the_same_scale_at_every_width(width):
    network = MaskedMLP(inputs=64, max_width=64, outputs=1, activations=("tanh",))

    def second_moment(key):
        second = network.init(key, width)[1]
        return jnp.sum(second.kernel**2)  # the variance of a sum of unit-size hidden units

    moments = jax.vmap(second_moment)(jax.random.split(jax.random.key(0), 4000))
    error = moments.std() / np.sqrt(4000)
    assert abs(moments.mean() - 1.0) < 4 * error


def test_widths_and_activations_are_traced_so_a_population_is_one_kernel():
    widths, activations = jnp.array([2, 5, 8]), jnp.array([0, 1, 0])

    def value(width, activation):
        return LARGE.apply(LARGE.init(jax.random.key(0), width), X, width, activation)

    together = jax.jit(jax.vmap(value))(widths, activations)
    for row, width, activation in zip(together, (2, 5, 8), (0, 1, 0), strict=True):
        np.testing.assert_allclose(row, value(width, activation), rtol=1e-5, atol=1e-6)
