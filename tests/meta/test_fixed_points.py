"""MAML, FOMAML and Reptile on three quadratic tasks end where their own equations say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.base import Estimate, Estimator, TaskFamily

ALPHA, STEPS = 0.1, 3


def tasks():
    """Curvatures A, B and centres c, d of support and query losses, three of each."""
    rng = np.random.default_rng(3)
    a, b = ([np.diag(rng.uniform(0.5, 3, 2)) for _ in range(3)] for _ in range(2))
    turns = [np.linalg.qr(rng.normal(size=(2, 2)))[0] for _ in range(6)]
    a = np.stack([q @ x @ q.T for q, x in zip(turns[:3], a, strict=True)])
    b = np.stack([q @ x @ q.T for q, x in zip(turns[3:], b, strict=True)])
    return a, rng.normal(size=(3, 2)), b, rng.normal(size=(3, 2))


def fixed_points():
    """The roots of the mean meta-gradients, ``sum_i L_i (theta - c_i) + r_i = 0``, by numpy.

    With ``M = (I - alpha A)^K`` a task adapts to ``c + M (theta - c)``, and the meta-gradient is
    ``B (c + M (theta - c) - d)`` for FOMAML, M times that for MAML, ``(I - M)(theta - c)`` for
    Reptile.
    """
    sums = {name: [np.zeros((2, 2)), np.zeros(2)] for name in ("maml", "fomaml", "reptile")}
    for a, c, b, d in zip(*tasks(), strict=True):
        m = np.linalg.matrix_power(np.eye(2) - ALPHA * a, STEPS)
        first_order = b @ m, b @ (c - d)
        of = {
            "maml": (m @ first_order[0], m @ first_order[1]),
            "fomaml": first_order,
            "reptile": (np.eye(2) - m, np.zeros(2)),
        }
        for name, (linear, rest) in of.items():
            sums[name][0] += linear
            sums[name][1] += linear @ c - rest
    return {name: np.linalg.solve(*total) for name, total in sums.items()}


def loss(params, task, split):
    a, c, b, d = task
    matrix, center = (a, c) if split == "support" else (b, d)
    return (params - center) @ matrix @ (params - center) / 2


def over_all(estimator):
    """The mean of an estimator over stacked tasks, so that no draw disturbs the descent."""

    def estimate(key, hparams, stacked, memory):
        one, _ = jax.vmap(estimator.estimate, (None, None, 0, None))(key, hparams, stacked, ())
        return Estimate(one.loss.mean(), one.grad.mean(axis=0), {}), memory

    return Estimator(estimator.init, estimate)


ESTIMATORS = {
    "maml": mh.hypergrad.reverse,
    "fomaml": mh.hypergrad.first_order,
    "reptile": mh.hypergrad.reptile,
}


def learned(name):
    stacked = jax.tree.map(jnp.asarray, tasks())
    family = TaskFamily(
        sample=lambda key: stacked,
        init=lambda key, task: jnp.array([3.0, -1.0]),
        loss=loss,
        describe=lambda task: task[0].ravel(),
    )
    problem = mh.meta.maml(family, ALPHA)
    estimator = over_all(ESTIMATORS[name](problem, STEPS))
    return jax.jit(
        lambda key: mh.meta_train(
            key, problem, estimator, problem.initial(key), optax.sgd(0.3), rounds=2000, tasks=1
        )
    )(jax.random.key(0))


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_each_ends_in_its_own_fixed_point(name):
    with jax.enable_x64(True):
        result = learned(name)
    np.testing.assert_allclose(np.asarray(result.hparams), fixed_points()[name], rtol=1e-12)
    assert np.asarray(result.history.grad_norm)[-1] < 1e-13


def test_the_three_fixed_points_differ():
    points = list(fixed_points().values())
    for i in range(3):
        assert np.abs(points[i] - points[i - 1]).max() > 0.05
