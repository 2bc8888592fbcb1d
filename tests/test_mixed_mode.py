"""Forward-over-reverse gradients are ordinary gradients that need less memory."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

pytestmark = pytest.mark.versions

KEY = jax.random.key(0)
HPARAMS = {"lr": 0.1, "l2": 0.01, "width": 3}


def deep_network(gradient, layers: int = 3, width: int = 4, rows: int = 5) -> mh.Problem:
    """Residual layers under a scan; a float and an integer hyperparameter enter the loss."""

    def configure(hparams):
        def init(key, task):
            return jax.random.normal(key, (layers, width, width)) / width**0.5

        def loss(params, task, split):
            mask = jnp.arange(width) < hparams["width"]
            out, _ = jax.lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), task, params)
            return jnp.mean(out[:, 0] ** 2) + hparams["l2"] * jnp.sum((params * mask) ** 2)

        return mh.TaskFamily(sample, init, loss, lambda task: task[0])

    def sample(key):
        return jax.random.normal(key, (rows, width))

    return mh.problems.training(
        configure(HPARAMS),
        lambda h: optax.sgd(h["lr"], momentum=0.5),
        configure,
        minibatch=lambda key, task: jax.random.permutation(key, task)[: rows // 2],
        gradient=gradient,
    )


def transformations(problem, steps: int = 4, checkpoint="sqrt"):
    task = problem.sample(KEY)
    loss = mh.inner.outer_loss(problem, steps, checkpoint)

    def of(floats):
        return loss(KEY, HPARAMS | floats, task)[0]

    floats = {"lr": jnp.array(0.1), "l2": jnp.array(0.01)}
    ones = jax.tree.map(jnp.ones_like, floats)
    batch = jax.tree.map(lambda x: x * jnp.array([1.0, 2.0]), floats)
    grad = jax.grad(of)
    return {
        "grad": grad(floats),
        "vmap of grad": jax.vmap(grad)(batch),
        "grad of grad": jax.grad(lambda f: grad(f)["l2"])(floats),
        "jvp of grad": jax.jvp(grad, (floats,), (ones,))[1],
    }


@pytest.mark.slow
def test_every_transformation_of_a_reverse_gradient_is_unchanged():
    with jax.enable_x64(True):
        plain, mixed = (
            jax.jit(lambda g=g: transformations(deep_network(g)))()
            for g in (jax.grad, mh.mixed_gradient)
        )
        chex.assert_trees_all_close(mixed, plain, rtol=1e-10)


def test_it_agrees_with_finite_differences():
    with jax.enable_x64(True):
        problem = deep_network(mh.mixed_gradient)
        task = problem.sample(KEY)
        loss = jax.jit(lambda h: mh.inner.outer_loss(problem, 4)(KEY, h, task)[0])
        estimator = mh.hypergrad.reverse(problem, 4)
        grad = jax.jit(lambda h: estimator.estimate(KEY, h, task, ())[0].grad)(HPARAMS)
        for name in ("lr", "l2"):
            above, below = (loss(HPARAMS | {name: HPARAMS[name] + s}) for s in (1e-6, -1e-6))
            np.testing.assert_allclose(grad[name], (above - below) / 2e-6, rtol=1e-6)


def test_it_stores_no_activation():
    def memory(gradient):
        problem = deep_network(gradient, layers=12, width=32, rows=256)
        estimator = mh.hypergrad.reverse(problem, 64, "none")
        run = jax.jit(lambda lr: estimator.estimate(KEY, HPARAMS | {"lr": lr}, task, ())[0].grad)
        task = problem.sample(KEY)
        return run.lower(0.1).compile().memory_analysis().temp_size_in_bytes

    assert memory(mh.mixed_gradient) < 0.4 * memory(jax.grad)


def test_forward_mode_is_refused():
    problem = deep_network(mh.mixed_gradient)
    forward = mh.hypergrad.forward(problem, 2)
    with pytest.raises(TypeError, match="forward-mode autodiff"):
        forward.estimate(KEY, HPARAMS, problem.sample(KEY), ())
