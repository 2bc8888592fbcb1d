"""Truncation: exact over the whole training, and as wrong as is known where memory is long."""

import closed_forms as forms
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo import hypergrad

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


# The steady state is s[0] = -6 theta, so at theta = 1/2 the loss is 8 and the gradient 24.
WINDOWS = {1: -4.0, 5: -20.0, 10: -40.0, 20: -65.904, 40: -2.262, 100: 24.0}


@pytest.mark.parametrize(("window", "expected"), WINDOWS.items())
def test_influence_balancing_gives_the_known_wrong_gradients(window, expected):
    estimator = hypergrad.truncated(forms.influence_balancing(), steps=400, window=window)
    estimate, _ = estimator.estimate(KEY, {"theta": jnp.array(0.5)}, None, ())
    np.testing.assert_allclose(estimate.loss, 8.0, rtol=1e-12)
    # The figures are known to three decimals.
    np.testing.assert_allclose(estimate.grad["theta"], expected, atol=5e-4)


def test_one_step_is_the_shortest_window():
    estimate, _ = hypergrad.one_step(forms.influence_balancing(), 400).estimate(
        KEY, {"theta": jnp.array(0.5)}, None, ()
    )
    np.testing.assert_allclose(estimate.grad["theta"], WINDOWS[1], rtol=1e-12)


@pytest.mark.parametrize("window", [12, 100])
def test_a_window_over_all_steps_is_the_exact_gradient(window):
    family = mh.problems.quadratics(dimension=4, kappa=5.0, power=2.0)
    problem = mh.problems.training(family, lambda h: optax.sgd(h["lr"], momentum=h["momentum"]))
    hparams = {"lr": jnp.array(0.1), "momentum": jnp.array(0.5)}
    task = problem.sample(KEY)
    some, exact = (
        make.estimate(KEY, hparams, task, ())[0]
        for make in (hypergrad.truncated(problem, 12, window), hypergrad.reverse(problem, 12))
    )
    for name in hparams:
        np.testing.assert_allclose(some.grad[name], exact.grad[name], rtol=1e-12)


def test_the_steps_before_the_window_use_the_keys_of_a_whole_training():
    def step(key, h, task, state):
        return 0.5 * state + h["x"] * jax.random.normal(key)

    problem = forms.influence_balancing()._replace(
        init=lambda key, h, task: jnp.zeros(()), step=step, loss=lambda key, h, task, s: s
    )
    hparams = {"x": jnp.array(1.0)}
    some, _ = hypergrad.truncated(problem, 9, window=4).estimate(KEY, hparams, None, ())
    exact, _ = mh.inner.outer_loss(problem, 9)(KEY, hparams, None)
    np.testing.assert_allclose(some.loss, exact, rtol=1e-12)


def test_without_burn_in_the_windows_follow_one_another_and_begin_anew():
    problem = forms.influence_balancing()
    estimator = hypergrad.truncated(problem, 20, window=10, burn_in=False)
    hparams = {"theta": jnp.array(0.5)}
    training = estimator.init(KEY, hparams, None)
    grads = []
    for key in jax.random.split(KEY, 4):
        estimate, training = jax.jit(estimator.estimate)(key, hparams, None, training)
        grads.append(float(estimate.grad["theta"]))
    # Each window's gradient is that of a truncated training which ends there.
    for grad, steps in zip(grads, [10, 20, 10, 20], strict=True):
        whole, _ = hypergrad.truncated(problem, steps, 10).estimate(KEY, hparams, None, ())
        np.testing.assert_allclose(grad, whole.grad["theta"], rtol=1e-12)


def test_descent_with_windows_goes_the_wrong_way():
    """Vicol et al. 2021, figure 4: from 1/2 away from the optimum at -1/6."""
    estimator = hypergrad.truncated(forms.influence_balancing(), 4 * 10**6, 40, burn_in=False)

    def round_(carry, key):
        hparams, training = carry
        estimate, training = estimator.estimate(key, hparams, None, training)
        hparams = jax.tree.map(lambda h, g: h - 1e-4 * g, hparams, estimate.grad)
        return (hparams, training), hparams["theta"]

    hparams = {"theta": jnp.array(0.5)}
    start = (hparams, estimator.init(KEY, hparams, None))
    _, path = jax.jit(lambda keys: jax.lax.scan(round_, start, keys))(jax.random.split(KEY, 2000))
    assert path[-1] > 0.5 and (6 * path[-1] + 1) ** 2 / 2 > 8.0


@pytest.mark.parametrize("window", [0, -1, 1.5])
def test_a_window_must_be_a_positive_whole_number(window):
    with pytest.raises(ValueError, match=f"window .* got {window}"):
        hypergrad.truncated(forms.influence_balancing(), 10, window)


def test_windows_that_follow_one_another_must_divide_the_training():
    with pytest.raises(ValueError, match="must divide steps, got window=4 and steps=10"):
        hypergrad.truncated(forms.influence_balancing(), 10, 4, burn_in=False)
