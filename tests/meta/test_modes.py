"""Every way to a second-order meta-gradient gives the same one; the invariants of meta-batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.problems import Episode, Examples, few_shot, squared_error

KEY = jax.random.key(0)
STEPS = 5
NETWORK = mh.networks.MLP(hidden=(4,), bias=(0.0,), scale=1.0)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def waves(key):
    phase_key, x_key = jax.random.split(key)
    x = jax.random.normal(x_key, (8, 1))
    y = jnp.sin(x - jax.random.uniform(phase_key))
    return Episode(Examples(x[:4], y[:4]), Examples(x[4:], y[4:]))


FAMILY = few_shot(waves, NETWORK, squared_error)
LEARNERS = {
    "maml": lambda gradient: mh.meta.maml(FAMILY, 0.3, gradient=gradient),
    "meta_sgd": lambda gradient: mh.meta.meta_sgd(FAMILY, initial_rate=0.3, gradient=gradient),
    "maml_plus_plus": lambda gradient: mh.meta.maml_plus_plus(
        FAMILY, STEPS, initial_rate=0.3, weights=mh.meta.step_weights(0.04, STEPS),
        gradient=gradient,
    ),
}  # fmt: skip
MODES = {
    "step": (jax.grad, lambda p: mh.hypergrad.reverse(p, STEPS, "step")),
    "sqrt": (jax.grad, lambda p: mh.hypergrad.reverse(p, STEPS, "sqrt")),
    "four states": (jax.grad, lambda p: mh.hypergrad.reverse(p, STEPS, 4)),
    "unrolled": (jax.grad, lambda p: mh.hypergrad.reverse(p, STEPS, "unrolled")),
    "auto": (jax.grad, lambda p: mh.hypergrad.reverse(p, STEPS)),
    "forward": (jax.grad, lambda p: mh.hypergrad.forward(p, STEPS)),
    "forward over reverse": (mh.mixed_gradient, lambda p: mh.hypergrad.reverse(p, STEPS, "step")),
}


def gradient_of(learner, mode):
    inner_gradient, make = mode
    problem = LEARNERS[learner](inner_gradient)
    task = problem.sample(jax.random.key(1))
    result = jax.jit(lambda h: make(problem).estimate(KEY, h, task, ())[0].grad)(
        problem.initial(KEY)
    )
    return np.asarray(mh.floats.ravel(result)[0])


@functools.cache
def plain(learner):
    return gradient_of(learner, (jax.grad, lambda p: mh.hypergrad.reverse(p, STEPS, "none")))


@pytest.mark.parametrize("mode", list(MODES))
def test_all_modes_of_maml_agree(mode):
    np.testing.assert_allclose(gradient_of("maml", MODES[mode]), plain("maml"), rtol=1e-10)
    assert np.abs(plain("maml")).max() > 0.01


@pytest.mark.parametrize("mode", ["unrolled", "forward", "forward over reverse"])
@pytest.mark.parametrize("learner", ["meta_sgd", "maml_plus_plus"])
def test_other_learners_modes_agree(learner, mode):
    np.testing.assert_allclose(
        gradient_of(learner, MODES[mode]), plain(learner), rtol=1e-10, atol=1e-14
    )


def test_implicit_is_the_limit_of_a_long_proximal_training():
    problem = mh.meta.imaml(FAMILY, 0.2, 1.0)
    task, params = problem.sample(jax.random.key(1)), problem.initial(KEY)
    inner_loss = mh.meta.proximal_loss(FAMILY, 1.0)
    implicit = mh.hypergrad.implicit(problem, 200, "cg", inner_loss=inner_loss)
    grads = jax.jit(
        lambda h: [
            make.estimate(KEY, h, task, ())[0].grad
            for make in (implicit, mh.hypergrad.reverse(problem, 200, "none"))
        ]
    )(params)
    first, second = (mh.floats.ravel(grad)[0] for grad in grads)
    np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12)


def test_the_order_of_tasks_their_chunks_and_a_loop_change_nothing():
    problem = LEARNERS["maml"](jax.grad)
    params, estimator = problem.initial(KEY), mh.hypergrad.reverse(problem, 2, "none")

    def update(chunk=None):
        result = mh.meta_train(
            KEY, problem, estimator, params, optax.sgd(1.0), rounds=1, tasks=6, chunk=chunk
        )
        return mh.floats.ravel(result.hparams)[0]

    keys = jax.random.split(jax.random.key(2), 6)

    def mean(keys, one_by_one):
        def one(key):
            return estimator.estimate(KEY, params, problem.sample(key), ())[0].grad

        grads = jax.lax.map(one, keys) if one_by_one else jax.vmap(one)(keys)
        return mh.floats.ravel(jax.tree.map(lambda g: g.mean(axis=0), grads))[0]

    whole, parts, mapped, looped, turned = jax.jit(
        lambda: (
            update(), update(chunk=2), mean(keys, False), mean(keys, True), mean(keys[::-1], False)
        )
    )()  # fmt: skip
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    np.testing.assert_allclose(looped, mapped, rtol=1e-10)
    np.testing.assert_allclose(turned, mapped, rtol=1e-10)
