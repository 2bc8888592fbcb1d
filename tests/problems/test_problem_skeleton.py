"""docs/skeletons/problem.py runs as it is, and its trainings end where a closed form says."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh

PATH = Path(__file__).parents[2] / "docs" / "skeletons" / "problem.py"
spec = importlib.util.spec_from_file_location("problem_skeleton", PATH)
skeleton = importlib.util.module_from_spec(spec)
spec.loader.exec_module(skeleton)

KEY = jax.random.key(0)


def ridge(part, l2):
    """Weights of ridge regression by an augmented least-squares problem, and not by its Gram."""
    x, y = (np.asarray(leaf, float) for leaf in part)
    rows = np.vstack([x, np.sqrt(l2 * len(y)) * np.eye(x.shape[1])])
    return np.linalg.lstsq(rows, np.append(y, np.zeros(x.shape[1])))[0]


def error(part, weights):
    return np.mean((np.asarray(part.x) @ weights - part.y) ** 2) / 2


@pytest.mark.parametrize(
    ("make", "steps"), [(skeleton.regression_problem, 3000), (skeleton.newton_problem, 1)]
)
def test_training_ends_at_ridge_regression(make, steps):
    problem = make()
    hparams = {"learning_rate": jnp.array(0.1), "l2": jnp.array(0.3)}
    task = problem.sample(KEY)
    loss, _ = jax.jit(mh.inner.outer_loss(problem, steps))(KEY, hparams, task)
    np.testing.assert_allclose(loss, error(task.query, ridge(task.support, 0.3)), rtol=1e-4)


def test_a_search_finds_the_best_regulariser_of_a_task():
    problem, dimension = skeleton.newton_problem(), {"l2": skeleton.SPACE["l2"]}
    task = problem.sample(jax.random.key(1))
    strategy = mh.strategies.random(dimension, 200)
    result = jax.jit(
        lambda key: mh.search(key, problem, dimension, strategy, rounds=1, steps=1, task=task)
    )(KEY)
    grid = np.geomspace(1e-3, 10, 400)
    best = min(error(task.query, ridge(task.support, l2)) for l2 in grid)
    np.testing.assert_allclose(result.best_loss, best, rtol=1e-3)


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="features must be at least 1, got 0"):
        skeleton.linear_regression(features=0)
