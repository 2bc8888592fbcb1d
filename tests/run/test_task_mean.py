"""The mean over tasks: one gradient of the mean, or the mean of the gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.run.task_mean import task_mean


def everything(chunks=1, objective=True):
    """Loss and gradients of MAML on 6 tasks, in double precision."""
    with jax.enable_x64(True):
        problem = mh.meta.maml(mh.problems.sinusoid(5, 7, hidden=(3,)), learning_rate=0.1)
        estimator = mh.hypergrad.reverse(problem, 2, "unrolled")
        if not objective:
            estimator = estimator._replace(objective=None)
        hparams = problem.initial(jax.random.key(0))
        keys = (jax.random.split(jax.random.key(1), 6), jax.random.split(jax.random.key(2), 6))
        mean = task_mean(problem.sample, estimator, None, chunks)
        (loss, grads), memory, left_out = jax.jit(mean)(hparams, keys, ())
        assert memory == () and left_out == 0
        tasks = jax.vmap(problem.sample)(keys[0])
        return np.asarray(loss), [np.asarray(g) for g in grads], (problem, hparams, tasks)


@pytest.mark.parametrize("chunks", [1, 3])
def test_the_gradient_of_the_mean_is_the_mean_of_the_gradients(chunks):
    loss, grads, _ = everything(chunks)
    other_loss, other_grads, _ = everything(objective=False)
    np.testing.assert_allclose(loss, other_loss, rtol=1e-13)
    for one, other in zip(grads, other_grads, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-14)
    assert max(abs(grad).max() for grad in grads) > 1e-2


def test_it_is_the_difference_quotient_of_the_mean_loss():
    loss, grads, (problem, hparams, tasks) = everything()
    with jax.enable_x64(True):
        outer = mh.inner.outer_loss(problem, 2)
        direction = jax.tree.map(jnp.ones_like, hparams)

        @jax.jit
        def at(step):
            moved = jax.tree.map(lambda p, d: p + step * d, hparams, direction)
            one = jax.vmap(lambda task: outer(jax.random.key(0), moved, task)[0])
            return one(tasks).mean()

        quotient = (at(1e-6) - at(-1e-6)) / 2e-6
        np.testing.assert_allclose(at(0.0), loss, rtol=1e-12)
    np.testing.assert_allclose(sum(grad.sum() for grad in grads), quotient, rtol=1e-6)


def test_what_all_tasks_share_has_no_gradient_for_every_task():
    problem = mh.meta.maml(mh.problems.sinusoid(5, 7, hidden=(30, 50)), learning_rate=0.1)
    problem = problem._replace(step=lambda key, hparams, task, state: state)
    estimator = mh.hypergrad.reverse(problem, 1)
    hparams = problem.initial(jax.random.key(0))
    keys = (jax.random.split(jax.random.key(1), 6),) * 2

    def has_one_for_each(estimator):
        mean = task_mean(problem.sample, estimator, None, 1)
        program = str(jax.make_jaxpr(mean)(hparams, keys, ()))
        return "f32[6,30,50]" in program or "f32[6,50,30]" in program

    assert not has_one_for_each(estimator)
    assert has_one_for_each(estimator._replace(objective=None))
