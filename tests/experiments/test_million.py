"""A million decays: the implicit gradient of a small case, and the committed full one."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments import million as study

RESULTS = Path(study.__file__).parent / "results" / "million" / "results.json"


def test_the_implicit_gradient_is_the_dense_one_at_a_minimum():
    with jax.enable_x64(True):
        task = study.sample(jax.random.key(1))
        params = jax.tree.map(
            lambda p: jnp.asarray(p, jnp.float64), study.init(jax.random.key(2), 2)
        )
        start = jax.tree.map(lambda p: jnp.full_like(p, np.log(0.05)), params)
        hparams = {"log_decay": start}
        flat, unravel = ravel_pytree(params)

        def of(x):
            return study.training_loss(hparams, task, unravel(x))

        hessian, slope = jax.jit(jax.hessian(of)), jax.jit(jax.grad(of))
        at = study.begin(params)
        for _ in range(100):
            at = study.train_on(hparams, at, task)
        x = ravel_pytree(at.params)[0]
        for _ in range(5):
            x = x - np.linalg.solve(hessian(x), slope(x))
        task = task._replace(start=study.begin(unravel(x)))
        estimator = study.estimator(0, solver="cg")
        estimate, _ = jax.jit(estimator.estimate)(jax.random.key(0), hparams, task, ())
        assert estimate.info["converged"]
        outer = jax.jit(jax.grad(study.cross_entropy))(unravel(x), task.query)
        solved = np.linalg.solve(hessian(x), ravel_pytree(outer)[0])
        # d F_i / d log_decay_i = decay_i x_i, all else zero.
        expected = -0.05 * np.asarray(x) * solved
        ours = ravel_pytree(estimate.grad["log_decay"])[0]
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-12)


def test_one_number_for_all_is_the_same_penalty_as_equal_numbers():
    task, params = study.sample(jax.random.key(3)), study.init(jax.random.key(4), 4)
    one = study.training_loss({"log_decay": jnp.float32(-2.0)}, task, params)
    each = jax.tree.map(lambda p: jnp.full_like(p, -2.0), params)
    np.testing.assert_allclose(
        one, study.training_loss({"log_decay": each}, task, params), rtol=1e-6
    )
    squares = sum(np.sum(np.square(p)) for p in jax.tree.leaves(params))
    expected = study.cross_entropy(params, task.support) + np.exp(-2.0) * squares / 2
    np.testing.assert_allclose(one, expected, rtol=1e-5)


def test_the_committed_run_has_a_million_and_fits_the_validation_set_better():
    rows = {row["weight decay"]: row for row in json.loads(RESULTS.read_text())["rows"]}
    ours, scalar = rows[study.OURS], rows[study.SCALAR]
    assert ours["hyperparameters"] == 64 * 1000 + 1000**2 + 1000 * 10 + 2010 == 1_076_010
    assert ours["gradients a cut"] <= 1.1 * scalar["gradients a cut"]
    assert ours["validation loss"]["mean"] < scalar["validation loss"]["mean"]
