"""What the first-order approximation keeps and what it leaves out."""

import closed_forms as forms
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def quadratic_training(optimizer):
    family = mh.problems.quadratics(dimension=3, kappa=4.0, power=2.0)
    return mh.problems.training(family, optimizer)


def test_the_loss_is_that_of_the_training_itself():
    problem = quadratic_training(lambda h: optax.adam(h["lr"]))
    task, hparams = problem.sample(KEY), {"lr": jnp.array(0.1)}
    estimate, _ = mh.hypergrad.first_order(problem, 6).estimate(KEY, hparams, task, ())
    exact, state = mh.inner.outer_loss(problem, 6)(KEY, hparams, task)
    np.testing.assert_allclose(estimate.loss, exact, rtol=1e-14)
    assert int(estimate.info["state"].opt_state[0].count) == 6
    np.testing.assert_allclose(estimate.info["state"].params, state.params, rtol=1e-14)


def test_a_rate_gets_minus_the_outer_gradient_times_the_sum_of_inner_gradients():
    problem = quadratic_training(lambda h: optax.sgd(h["lr"]))
    task, lr, steps = problem.sample(KEY), 0.1, 5
    x, total = np.array(task.start), 0.0
    for _ in range(steps):
        total = total + task.eigenvalues * x
        x = x - lr * np.array(task.eigenvalues) * x
    expected = -(x / np.linalg.norm(x)) @ total
    grad = mh.hypergrad.first_order(problem, steps).estimate(KEY, {"lr": lr}, task, ())[0].grad
    np.testing.assert_allclose(grad["lr"], expected, rtol=1e-12)


def test_one_step_is_exact_for_what_the_step_itself_uses():
    problem = quadratic_training(lambda h: optax.adam(h["lr"], b1=h["b1"]))
    task, hparams = problem.sample(KEY), {"lr": jnp.array(0.1), "b1": jnp.array(0.8)}
    first, exact = (
        make(problem, 1).estimate(KEY, hparams, task, ())[0].grad
        for make in (mh.hypergrad.first_order, mh.hypergrad.reverse)
    )
    np.testing.assert_allclose(first["lr"], exact["lr"], rtol=1e-12)


def test_an_overflowing_state_stays_infinite():
    problem = quadratic_training(lambda h: optax.sgd(h["lr"]))
    task = problem.sample(KEY)
    estimate, _ = mh.hypergrad.first_order(problem, 4).estimate(KEY, {"lr": 1e100}, task, ())
    with_reverse, _ = mh.hypergrad.reverse(problem, 4).estimate(KEY, {"lr": 1e100}, task, ())
    np.testing.assert_array_equal(estimate.info["state"].params, with_reverse.info["state"].params)
    assert not estimate.info["finite"]


def test_initial_parameters_need_no_memory_for_the_steps():
    """FOMAML's defining saving: nothing of the training is kept."""
    family = mh.problems.sinusoid(shots=5, queries=5, hidden=(20,))
    problem = mh.meta.maml(family, learning_rate=0.01)
    params, task = mh.meta.initial_params(KEY, family), family.sample(KEY)

    def memory(make, steps):
        grad = jax.jit(lambda p: make(problem, steps).estimate(KEY, p, task, ())[0].grad)
        return grad.lower(params).compile().memory_analysis().temp_size_in_bytes

    short, long = (memory(mh.hypergrad.first_order, steps) for steps in (10, 200))
    assert long < 1.1 * short
    assert memory(mh.hypergrad.reverse, 200) > 5 * long


@pytest.mark.parametrize("order", ["reverse", "forward"])
def test_its_own_derivative_is_that_of_the_formula(order):
    """The gradient is a function of the hyperparameters like any other."""
    estimator = mh.hypergrad.first_order(forms.scalar_dynamics(), 9)

    def slope(lr):
        hparams = forms.scalar_hparams(lr)
        return estimator.estimate(KEY, hparams, jnp.array(1.1), ())[0].grad["lr"]

    derivative = {"reverse": jax.grad, "forward": jax.jacfwd}[order](slope)(0.3)
    above, below = (forms.scalar_first_order(0.3 + h, 1.3, 1.1, 9)[0] for h in (1e-6, -1e-6))
    np.testing.assert_allclose(derivative, (above - below) / 2e-6, rtol=1e-6)
