"""ANIL and task heads: what adapts, what is shared, and the meta-gradients of both."""

import jax
import jax.numpy as jnp
import known_task
import numpy as np
import pytest
from known_task import ALPHA, THETA, A, B, C, D, split_family

import metahpo as mh
from metahpo.meta import leaves

KEY = jax.random.key(0)
HEAD = np.diag([0.0, 1.0])  # the projection on the coordinate that adapts
SPLIT = {"body": THETA[0], "head": THETA[1]}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def adapted(steps):
    """Only the head moves: ``t <- t - alpha P A (t - c)``; and the Jacobian of all steps."""
    theta, jacobian = THETA, np.eye(2)
    for _ in range(steps):
        theta = theta - ALPHA * HEAD @ A @ (theta - C)
        jacobian = (np.eye(2) - ALPHA * HEAD @ A) @ jacobian
    return theta, jacobian


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("make", [mh.hypergrad.reverse, mh.hypergrad.forward])
def test_anil_has_the_closed_form(make, steps):
    theta, jacobian = adapted(steps)
    result = known_task.estimate(make, mh.meta.anil(split_family(), ALPHA), steps, SPLIT)
    at_end = result.info["state"].params
    np.testing.assert_allclose(known_task.vector(at_end), theta, rtol=1e-12)
    assert at_end["body"] == THETA[0]
    expected = jacobian.T @ B @ (theta - D)
    np.testing.assert_allclose(known_task.vector(result.grad), expected, rtol=1e-12)


def test_first_order_anil_takes_the_query_gradient():
    problem = mh.meta.anil(split_family(), ALPHA)
    result = known_task.estimate(mh.hypergrad.first_order, problem, 3, SPLIT)
    np.testing.assert_allclose(known_task.vector(result.grad), B @ (adapted(3)[0] - D), rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
def test_anil_of_all_leaves_is_maml(steps):
    problem = mh.meta.anil(split_family(), ALPHA, adapts=lambda path: True)
    result = known_task.estimate(mh.hypergrad.reverse, problem, steps, SPLIT)
    expected = known_task.KNOWN[steps][2]
    np.testing.assert_allclose(known_task.vector(result.grad), expected, rtol=1e-12)


def test_a_learned_head_on_a_shared_trunk_is_anil():
    problem = mh.meta.task_heads(split_family(), ALPHA, fresh=False, gradient=jax.grad)
    hparams = problem.initial(KEY)
    result = known_task.estimate(mh.hypergrad.reverse, problem, 3, hparams)
    theta, jacobian = adapted(3)
    expected = jacobian.T @ B @ (theta - D)
    grads = [result.grad["trunk"]["body"], result.grad["head"]["head"]]
    np.testing.assert_allclose(grads, expected, rtol=1e-12)


def test_by_default_the_trunk_follows_the_query_loss_below_a_constant_head():
    problem = mh.meta.task_heads(split_family(), ALPHA)
    result = known_task.estimate(mh.hypergrad.reverse, problem, 3, problem.initial(KEY))
    expected = (B @ (adapted(3)[0] - D))[0]
    assert list(result.grad) == ["trunk"]
    np.testing.assert_allclose(result.grad["trunk"]["body"], expected, rtol=1e-12)


def test_every_task_draws_a_head_and_all_share_the_trunk():
    family = mh.problems.sinusoid(shots=5, hidden=(6,))
    problem = mh.meta.task_heads(family, 0.02)
    hparams = problem.initial(KEY)
    support = problem.sample(KEY).support
    adapt = mh.meta.learner(problem, 4).adapt
    states = jax.vmap(adapt, (None, None, 0))(hparams, support, jax.random.split(KEY, 2))
    for path, leaf in leaves.by_path(states.params).items():
        if leaves.in_head(path):
            assert np.abs(leaf[0] - leaf[1]).max() > 1e-3
        else:
            np.testing.assert_array_equal(leaf, jnp.stack([hparams["trunk"][path]] * 2))
    assert set(hparams["trunk"]) == {"params/Dense_0/bias", "params/Dense_0/kernel"}


def test_a_part_that_is_not_there_is_refused():
    problem = mh.meta.anil(known_task.family(), ALPHA)  # its parameters are one vector
    with pytest.raises(ValueError, match="no leaf of the parameters is chosen"):
        known_task.estimate(mh.hypergrad.reverse, problem, 1)
    with pytest.raises(ValueError, match="no leaf of the parameters is chosen"):
        mh.meta.task_heads(split_family(), ALPHA, head=lambda path: True).initial(KEY)
