"""Reptile's displacement for problems other than MAML's."""

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


def scaled_start(optimizer):
    """Training of quadratics from ``scale`` times their own starting point."""
    family = mh.problems.quadratics(dimension=4, kappa=4.0)

    def configure(hparams):
        return family._replace(init=lambda key, task: hparams["scale"] * task.start)

    return mh.problems.training(family, optimizer, configure)


@pytest.mark.parametrize("optimizer", [lambda h: optax.sgd(h["lr"]), lambda h: optax.adam(h["lr"])])
def test_displacement_is_pulled_back_through_init(optimizer):
    problem = scaled_start(optimizer)
    task, hparams = problem.sample(KEY), {"scale": jnp.array(2.0), "lr": jnp.array(0.05)}
    estimate, _ = mh.hypergrad.reptile(problem, 7).estimate(KEY, hparams, task, ())
    final = mh.inner.unroll(problem, 7)(KEY, hparams, task).params
    expected = task.start @ (2.0 * task.start - final)
    np.testing.assert_allclose(estimate.grad["scale"], expected, rtol=1e-12)


def test_what_init_does_not_see_is_zero_and_flagged():
    problem = scaled_start(lambda h: optax.adam(h["lr"]))
    task, hparams = problem.sample(KEY), {"scale": jnp.array(2.0), "lr": jnp.array(0.05)}
    estimate, _ = mh.hypergrad.reptile(problem, 7).estimate(KEY, hparams, task, ())
    assert estimate.grad["lr"] == 0
    assert estimate.info["sees"]["scale"] and not estimate.info["sees"]["lr"]


def test_a_training_that_does_not_move_is_not_taken_for_one_that_init_does_not_see():
    problem = scaled_start(lambda h: optax.sgd(h["lr"]))
    hparams = {"scale": jnp.array(2.0), "lr": jnp.array(0.0)}
    estimate, _ = mh.hypergrad.reptile(problem, 3).estimate(KEY, hparams, problem.sample(KEY), ())
    assert estimate.grad["scale"] == 0 and estimate.info["sees"]["scale"]
