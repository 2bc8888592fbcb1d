"""The shipped rules beside tuned Adam: what is judged, and what is committed."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from experiments import beyond_the_horizon as study
from metahpo import report

RESULTS = Path(study.__file__).parent / "results" / "beyond_the_horizon" / "results.json"


def test_losses_are_those_of_a_loop_and_no_row_is_on_both_sides(monkeypatch):
    monkeypatch.setattr(study, "TIMES", (1, 2))
    size = study.Size(horizon=2)
    keys = jax.random.split(jax.random.key(0), 2)
    found = study.losses("wine 8-8-8", optax.sgd, jnp.array([0.1, 0.2]), keys, size)
    assert found.shape == (2, 2, 2, 2)  # rates, seeds, horizons, measures
    tasks = study.family("wine 8-8-8")
    sample_key, train_key = jax.random.split(keys[1])
    task = tasks.sample(sample_key)
    parts = np.concatenate([task.support.x, task.query.x])
    assert sorted(map(tuple, parts)) == sorted(map(tuple, study.data("wine")[0]))
    own = mh.inner.keys(train_key)
    params, draw = tasks.init(own.init, task), mh.problems.minibatch(study.BATCH)
    for t in range(2):
        batch = draw(jax.random.fold_in(own.steps, t), task)
        slope = jax.grad(lambda p, b=batch: tasks.loss(p, b, "support"))(params)
        params = optax.apply_updates(params, jax.tree.map(lambda g: -0.2 * g, slope))
    expected = [tasks.loss(params, task, part) for part in ("support", "query")]
    np.testing.assert_allclose(found[1, 1, 0], expected, rtol=1e-5)


def test_the_chosen_rates_are_taken():
    values = np.arange(24.0).reshape(3, 2, 2, 2)  # rates, seeds, horizons, measures
    best = np.array([[0, 1], [2, 0]])
    found = study._at(values, best)
    assert found[1].tolist() == [[values[0, 1, 0, 0], values[1, 1, 0, 1]],
                                 [values[2, 1, 1, 0], values[0, 1, 1, 1]]]  # fmt: skip


def test_the_committed_run_has_the_grid_and_the_seeds():
    settings = report.load_json(RESULTS)["settings"]
    assert (settings["rates"], settings["tuning"]) == (14, 5)
    assert settings["seeds"] >= 10 and settings["horizon"] == 200
