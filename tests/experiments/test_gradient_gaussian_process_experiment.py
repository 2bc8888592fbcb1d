"""Gradients in Bayesian optimisation: lowest losses, what is charged, committed results."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import gradient_gaussian_process as study
from metahpo.study import Work

RESULTS = Path(study.__file__).parent / "results" / "gradient_gaussian_process" / "results.json"


def loss(tuned, hparams):
    key = jax.random.key(0)
    task = tuned.problem.sample(key)
    state = tuned.problem.init(key, hparams, task)
    return tuned.problem.loss(key, hparams, task, state)


def test_the_lowest_loss_of_the_ridge_regression_is_that_of_a_grid_for_every_group():
    tuned = study.ridge()
    grid = jnp.linspace(-4.0, 8.0, 2001)
    at = jax.jit(jax.vmap(lambda x: loss(tuned, {"log_l2": x})))
    best = jnp.zeros(study.GROUPS)
    for group in range(study.GROUPS):  # the groups do not know of one another
        rows = jnp.broadcast_to(best, (len(grid), study.GROUPS)).at[:, group].set(grid)
        best = best.at[group].set(grid[jnp.argmin(at(rows))])
    np.testing.assert_allclose(at(best[None])[0], tuned.lowest(), rtol=1e-5)


def test_the_valley_is_lowest_at_ones():
    tuned = study.rosenbrock()
    assert loss(tuned, {"x": jnp.ones(5)}) == tuned.lowest() == 0


def test_an_evaluation_with_its_gradient_is_charged_as_three():
    regret = np.array([[5.0, 3.0, 1.0], [4.0, 4.0, 4.0]])
    found = study.Found(regret, 3.0)
    np.testing.assert_array_equal(study.needed(found, 3.0, 12), [6, 12])
    np.testing.assert_array_equal(study.at(found, 8), [3, 4])
    np.testing.assert_array_equal(study.at(found, 9), [1, 4])


def test_a_budget_beyond_the_whole_is_refused():
    with pytest.raises(ValueError, match="budgets must lie within 3 to 36, got 48"):
        study.study(study.Size(budgets=(12, 48)), Work())


def test_committed_regrets_are_of_many_seeds_and_never_negative():
    results = json.loads(RESULTS.read_text())
    assert results["settings"]["seeds"] >= 20
    rows = {(row["problem"], row["method"]): row for row in results["rows"]}
    assert set(rows) == {(p, m) for p in study.PROBLEMS for m in study.COLOR}
    for row in rows.values():
        assert row["evaluations to target"]["n"] == results["settings"]["seeds"]
        assert 0 <= row["regret @36"] <= row["regret @24"] <= row["regret @12"]
