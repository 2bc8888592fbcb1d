"""MAML, FOMAML and Reptile on a quadratic task with everything known; Meta-SGD by hand."""

import chex
import jax
import jax.numpy as jnp
import known_task
import numpy as np
import optax
import pytest
from known_task import ALPHA, KNOWN, THETA, A, B, C, D, family

import metahpo as mh
from metahpo.base import TaskFamily

KEY = jax.random.key(0)
STEPS = pytest.mark.parametrize("steps", [1, 3])


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def estimate(make, steps, learning_rate=ALPHA):
    return known_task.estimate(make, mh.meta.maml(family(), learning_rate), steps)


@STEPS
@pytest.mark.parametrize("make", [mh.hypergrad.reverse, mh.hypergrad.forward])
def test_maml_gradient(make, steps):
    adapted, loss, maml, _ = KNOWN[steps]
    result = estimate(make, steps)
    np.testing.assert_allclose(result.grad, maml, rtol=1e-12)
    np.testing.assert_allclose(result.info["state"].params, adapted, rtol=1e-12)
    np.testing.assert_allclose(result.loss, loss, atol=5e-7)  # known to six digits


@STEPS
def test_fomaml_gradient(steps):
    np.testing.assert_allclose(
        estimate(mh.hypergrad.first_order, steps).grad, KNOWN[steps][3], rtol=1e-12
    )


@STEPS
def test_reptile_displacement(steps):
    shrunk = np.linalg.matrix_power(np.eye(2) - ALPHA * A, steps)
    expected = (np.eye(2) - shrunk) @ (THETA - C)
    np.testing.assert_allclose(estimate(mh.hypergrad.reptile, steps).grad, expected, rtol=1e-12)


def test_es_agrees_with_maml_within_its_error():
    result = estimate(lambda p, t: mh.hypergrad.es(p, t, pairs=2000, sigma=0.1), 3)
    error = result.info["standard_error"]
    assert np.all(np.abs(result.grad - np.array(KNOWN[3][2])) < 4 * error)


@pytest.mark.parametrize("make", [mh.hypergrad.reverse, mh.hypergrad.first_order])
def test_no_steps_give_the_plain_gradient(make):
    np.testing.assert_allclose(estimate(make, 0).grad, B @ (THETA - D), rtol=1e-14)


def test_without_a_learning_rate_maml_fomaml_and_joint_training_agree():
    plain = B @ (THETA - D)
    for make in (mh.hypergrad.reverse, mh.hypergrad.first_order):
        np.testing.assert_allclose(estimate(make, 3, 0.0).grad, plain, rtol=1e-14)
    assert np.all(estimate(mh.hypergrad.reptile, 3, 0.0).grad == 0)


def test_the_learning_rate_may_be_a_schedule():
    rates = np.array([0.1, 0.3])
    shrunk = (np.eye(2) - 0.3 * A) @ (np.eye(2) - 0.1 * A)
    result = estimate(mh.hypergrad.reverse, 2, lambda step: jnp.asarray(rates)[step])
    adapted = C + shrunk @ (THETA - C)
    np.testing.assert_allclose(result.grad, shrunk.T @ B @ (adapted - D), rtol=1e-12)


def meta_sgd_estimate(rates, steps):
    estimator = mh.hypergrad.reverse(mh.meta.meta_sgd(family()), steps)
    hparams = {"params": jnp.asarray(THETA), "rates": rates}
    return estimator.estimate(KEY, hparams, jnp.zeros(0), ())[0]


@STEPS
def test_meta_sgd_with_equal_rates_has_mamls_gradient(steps):
    rates = mh.meta.initial_rates(jnp.asarray(THETA), ALPHA)
    grad = meta_sgd_estimate(rates, steps).grad
    np.testing.assert_allclose(grad["params"], KNOWN[steps][2], rtol=1e-12)


def test_meta_sgd_gradient_of_one_step_by_hand():
    """``-query gradient * support gradient`` for each rate; a rate may be negative."""
    rates = np.array([0.2, -0.1])
    inner = A @ (THETA - C)
    outer = B @ (THETA - rates * inner - D)
    grad = meta_sgd_estimate(jnp.asarray(rates), 1).grad
    np.testing.assert_allclose(grad["rates"], -outer * inner, rtol=1e-12)
    np.testing.assert_allclose(grad["params"], outer - A @ (rates * outer), rtol=1e-12)


def test_meta_sgd_reports_rates_that_diverge():
    assert not meta_sgd_estimate(jnp.full(2, 1e200), 3).info["finite"]


def test_meta_train_reaches_the_best_start_of_two_tasks():
    """One step on tasks centred at +1 and -1: by symmetry the best start is 0, loss known."""

    def loss(params, task, split):
        return (params - task) ** 2 / 2

    signs = TaskFamily(
        sample=lambda key: jax.random.rademacher(key, (), float),
        init=lambda key, task: jnp.asarray(2.0),
        loss=loss,
        describe=lambda task: task[None],
    )
    problem = mh.meta.maml(signs, 0.5)
    start = mh.meta.initial_params(KEY, signs)
    assert start == 2.0
    result = jax.jit(
        lambda key: mh.meta_train(
            key,
            problem,
            mh.hypergrad.reverse(problem, 1),
            start,
            optax.sgd(optax.cosine_decay_schedule(1.0, 200)),
            rounds=200,
            tasks=16,
        )
    )(KEY)
    assert abs(result.hparams) < 0.1
    np.testing.assert_allclose(result.history.loss[-20:].mean(), 0.125, rtol=0.1)


def test_initial_rates_are_like_the_parameters():
    params = {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3, jnp.float32)}
    rates = mh.meta.initial_rates(params, 0.03)
    chex.assert_trees_all_equal_shapes_and_dtypes(rates, params)
    assert np.all(rates["w"] == 0.03)
