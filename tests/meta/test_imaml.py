"""iMAML: the known minimum and meta-gradient, the limit of long unrolling, few CG iterations."""

import jax
import jax.numpy as jnp
import known_task
import numpy as np
import pytest
from known_task import THETA, A, B, C, D, family

import metahpo as mh
from metahpo.base import TaskFamily

KEY = jax.random.key(0)
STRENGTH, RATE = 2.0, 0.3
MINIMUM = (1.936170212765957, -1.48936170212766)
GRADIENT = (1.399502037120869, -2.961973743775464)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def implicit(problem, steps, solver="cg", task=None, **options):
    inner_loss = mh.meta.proximal_loss(task or family(), STRENGTH)
    return mh.hypergrad.implicit(problem, steps, solver, inner_loss=inner_loss, **options)


def test_the_known_minimum_and_meta_gradient():
    problem = mh.meta.imaml(family(), RATE, STRENGTH)
    result = known_task.estimate(implicit, problem, 80)
    np.testing.assert_allclose(result.info["state"].params, MINIMUM, rtol=1e-12)
    np.testing.assert_allclose(result.grad, GRADIENT, rtol=1e-12)
    assert result.info["converged"]


@pytest.mark.parametrize(
    "make",
    [
        mh.hypergrad.reverse,
        mh.hypergrad.forward,
        mh.hypergrad.implicit,  # of the step's fixed point
        lambda problem, steps: implicit(problem, steps, "dense"),
        lambda problem, steps: implicit(problem, steps, "neumann", scale=0.2),
    ],
    ids=["reverse", "forward", "fixed point", "dense", "neumann"],
)
def test_every_way_leads_to_the_same_meta_gradient(make):
    result = known_task.estimate(make, mh.meta.imaml(family(), RATE, STRENGTH), 80)
    np.testing.assert_allclose(result.grad, GRADIENT, rtol=1e-10)


def test_before_the_minimum_the_formula_holds_where_training_stopped():
    """``lambda (A + lambda I)^-1 B (phi - d)`` at the phi of 3 steps (eq. 6 of the paper)."""
    phi = THETA
    for _ in range(3):
        phi = phi - RATE * (A @ (phi - C) + STRENGTH * (phi - THETA))
    result = known_task.estimate(implicit, mh.meta.imaml(family(), RATE, STRENGTH), 3)
    expected = STRENGTH * np.linalg.solve(A + STRENGTH * np.eye(2), B @ (phi - D))
    np.testing.assert_allclose(result.grad, expected, rtol=1e-12)
    assert not result.info["converged"]


def six_dimensions():
    rng = np.random.default_rng(0)
    curvature = np.diag([0.1, 1.0, 3.0, 10.0, 20.0, 40.0])
    center, target = rng.normal(size=(2, 6))

    def loss(params, task, split):
        if split == "support":
            return (params - center) @ curvature @ (params - center) / 2
        return jnp.sum((params - target) ** 2) / 2

    exact = STRENGTH * np.linalg.inv(curvature + STRENGTH * np.eye(6))
    phi = np.linalg.solve(curvature + STRENGTH * np.eye(6), curvature @ center)
    task = TaskFamily(lambda key: jnp.zeros(0), lambda key, task: jnp.zeros(6), loss, lambda t: t)
    return task, exact @ (phi - target)


def test_conjugate_gradients_are_exact_once_their_iterations_reach_the_dimension():
    task, exact = six_dimensions()
    problem = mh.meta.imaml(task, 0.04, STRENGTH)

    def grad(iterations):
        estimator = implicit(problem, 400, task=task, iterations=iterations, tolerance=1e-15)
        return estimator.estimate(KEY, jnp.zeros(6), jnp.zeros(0), ())[0].grad

    grads = jax.jit(lambda: [grad(iterations) for iterations in (1, 3, 5, 6)])()
    errors = [np.abs(grad - exact).max() for grad in grads]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1 > errors[2] > 1e-4
    assert errors[3] < 1e-11


def test_the_proximal_loss_pulls_towards_the_start():
    phi = jnp.array([1.0, 1.0])
    loss = mh.meta.proximal_loss(family(), 3.0)(jnp.asarray(THETA), None, phi)
    pull = 1.5 * ((1 - 3) ** 2 + (1 + 1) ** 2)
    np.testing.assert_allclose(loss, family().loss(phi, None, "support") + pull, rtol=1e-14)


def test_the_strength_may_be_traced():
    def grad(strength):
        problem = mh.meta.imaml(family(), 0.1, strength)
        inner_loss = mh.meta.proximal_loss(family(), strength)
        estimator = mh.hypergrad.implicit(problem, 200, inner_loss=inner_loss)
        return estimator.estimate(KEY, jnp.asarray(THETA), jnp.zeros(0), ())[0].grad

    grads = jax.jit(jax.vmap(grad))(jnp.array([STRENGTH, 5.0]))
    np.testing.assert_allclose(grads[0], GRADIENT, rtol=1e-10)
    assert not np.allclose(grads[1], GRADIENT, rtol=0.1)


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan")])
def test_a_strength_that_is_not_positive_is_refused(strength):
    with pytest.raises(ValueError, match=f"positive, got {strength}"):
        mh.meta.imaml(family(), RATE, strength)
