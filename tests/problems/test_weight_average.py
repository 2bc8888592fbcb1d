"""Averages of parameters, beside the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

KEY = jax.random.key(0)
FAMILY = mh.TaskFamily(
    lambda key: jnp.arange(3.0), lambda key, task: jnp.ones(3), lambda p, t, s: ((p - t) ** 2).sum()
)
PLAIN = mh.problems.training(FAMILY, lambda h: optax.sgd(h["lr"]))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_average_is_the_weighted_mean_of_all_parameters(decay):
    problem = mh.problems.weight_average(PLAIN, lambda h: h["decay"])
    hparams = {"lr": 0.1, "decay": decay}
    loss, _ = jax.jit(mh.inner.outer_loss(problem, 6))(KEY, hparams, jnp.arange(3.0))
    params, history = np.ones(3), []
    for _ in range(6):
        params = params - 0.2 * (params - np.arange(3.0))
        history.append(params)
    weights = decay ** np.arange(6)[::-1]
    mean = np.average(history, axis=0, weights=weights)
    np.testing.assert_allclose(loss, ((mean - np.arange(3.0)) ** 2).sum(), rtol=1e-5)


def test_without_an_update_the_first_parameters_are_judged():
    problem = mh.problems.weight_average(PLAIN, lambda h: 0.9)
    loss, _ = mh.inner.outer_loss(problem, 0)(KEY, {"lr": 0.1}, jnp.arange(3.0))
    assert float(loss) == 2.0


def test_decay_has_a_hypergradient():
    problem = mh.problems.weight_average(PLAIN, lambda h: h["decay"])
    with jax.enable_x64(True):
        task = jnp.arange(3.0)
        value = lambda decay: mh.inner.outer_loss(problem, 6)(  # noqa: E731
            KEY, {"lr": jnp.array(0.1), "decay": decay}, task
        )[0]
        slope = jax.grad(value)(0.7)
        difference = (value(0.7 + 1e-6) - value(0.7 - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


def test_another_state_is_refused_by_name():
    problem = mh.problems.weight_average(mh.problems.function(lambda h: h["x"]), lambda h: 0.9)
    with pytest.raises(ValueError, match="TrainState.* got tuple"):
        problem.init(KEY, {"x": 1.0}, None)
