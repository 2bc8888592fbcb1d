"""CAVIA: only the context moves, from zero, and conditions the network as it was told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import metahpo as mh
from metahpo.problems import Episode, Examples, few_shot, squared_error

KEY = jax.random.key(0)
LINEAR = mh.Network(
    init=lambda key, x: jax.random.normal(key, (x.shape[-1], 1), x.dtype),
    apply=lambda params, x: x @ params,
)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def points(key):
    x = jax.random.normal(key, (7, 2))
    return Episode(Examples(x[:4], x[:4, :1] ** 2), Examples(x[4:], x[4:, :1] ** 2))


def test_two_steps_of_a_linear_network_by_hand():
    """``y = [x, c] W`` has the gradient ``2 mean(y - target) W_c`` with respect to the context."""
    problem = mh.meta.cavia(few_shot(points, LINEAR, squared_error), 0.3, contexts=3)
    weights = problem.initial(KEY)
    assert weights.shape == (5, 1)
    support, query = points(KEY)
    w, context = np.asarray(weights), np.zeros(3)
    for _ in range(2):
        error = support.x @ w[:2] + context @ w[2:] - support.y
        context = context - 0.3 * 2 * error.mean() * w[2:, 0]
    adapt, predict = mh.meta.learner(problem, 2)
    adapted = adapt(weights, support, KEY)
    np.testing.assert_allclose(adapted.params["context"], context, rtol=1e-12)
    np.testing.assert_array_equal(adapted.params["network"], weights)
    expected = query.x @ w[:2] + context @ w[2:]
    np.testing.assert_allclose(predict(adapted, query.x), expected, rtol=1e-12)


def test_no_steps_give_the_joint_gradient():
    family = few_shot(points, LINEAR, squared_error)
    problem, task = mh.meta.cavia(family), points(KEY)
    weights = problem.initial(KEY)
    grad = mh.hypergrad.reverse(problem, 0).estimate(KEY, weights, task, ())[0].grad
    padded = jnp.concatenate([task.query.x, jnp.zeros((3, 5))], axis=1)
    plain = jax.grad(lambda w: squared_error(padded @ w, task.query.y))(weights)
    np.testing.assert_allclose(grad, plain, rtol=1e-12)


def test_images_get_constant_channels():
    conditioned = mh.meta.concatenated(linen.Conv(2, (3, 3)))
    x = jnp.zeros((2, 6, 6, 1))
    params = conditioned.init(KEY, x, jnp.zeros(4))
    assert params["params"]["kernel"].shape == (3, 3, 5, 2)
    # Inside, away from the padding, every pixel sees the same context.
    out = conditioned.apply(params, x, jnp.arange(4.0))[:, 1:-1, 1:-1]
    expected = jnp.einsum("abio,i->o", params["params"]["kernel"][:, :, 1:], jnp.arange(4.0))
    np.testing.assert_allclose(out, jnp.broadcast_to(expected, out.shape), rtol=1e-6)


def test_film_scales_and_shifts_the_features():
    encoder = mh.Network(lambda key, x: {}, lambda params, x: 2 * x)
    conditioned = mh.meta.film(encoder, LINEAR)
    x, context = jax.random.normal(KEY, (5, 2)), jnp.array([0.5, -1.0])
    params = conditioned.init(KEY, x, context)
    gamma, beta = np.split(np.asarray(context @ params["modulation"]), 2)
    expected = (2 * np.asarray(x) * (1 + gamma) + beta) @ np.asarray(params["head"])
    np.testing.assert_allclose(conditioned.apply(params, x, context), expected, rtol=1e-12)
    plain = conditioned.apply(params, x, jnp.zeros(2))
    np.testing.assert_allclose(plain, 2 * x @ params["head"], rtol=1e-12)


def test_what_it_needs():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        mh.meta.cavia(mh.problems.sinusoid(shots=5), contexts=0)
    with pytest.raises(ValueError, match="network and a criterion"):
        mh.meta.cavia(mh.problems.quadratics())
