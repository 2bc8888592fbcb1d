"""Optimisers made for each task: what is tuned, and what is committed."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import optimizer_per_task as study
from metahpo import report

RESULTS = Path(study.__file__).parent / "results" / "optimizer_per_task" / "results.json"


def test_a_single_optimizer_in_the_grid_is_that_optimizer(monkeypatch):
    monkeypatch.setattr(study, "RATES", 3)
    size, key = study.Size(tuning=2), jax.random.key(0)
    losses, rates = study.single(key, size)
    assert losses.shape == (4, 3, 2)
    for decays in (0, 1):
        schedule = optax.cosine_decay_schedule(rates[0], study.STEPS) if decays else rates[0]
        problem = study.training(lambda h, s=schedule: optax.sgd(s))
        expected = jax.jit(lambda p=problem: study.judge(p, {}, key, 2).mean())()
        np.testing.assert_allclose(losses[list(study.MAKERS).index("sgd"), 0, decays], expected,
                                   rtol=1e-4)  # fmt: skip


def test_noise_changes_the_slope_and_not_the_loss():
    family = study.quadratics()
    task = family.sample(jax.random.key(0))
    value = jax.value_and_grad(lambda x, key: family.loss(x, task, "support", key=key))
    x = jnp.ones(study.DIMENSION)
    (a, first), (b, second) = value(x, jax.random.key(1)), value(x, jax.random.key(2))
    assert a == b and not np.allclose(first, second)
    assert abs(float(family.loss(task.start, task, "query"))) < 2e-6  # log(1 + 1e-6)


def test_the_committed_descriptor_beats_the_best_single_optimizer_on_unseen_tasks():
    results = report.load_json(RESULTS)
    rows = {row["optimiser"]: row for row in results["rows"]}
    row = rows[study.DESCRIBED]
    assert row["minus single"]["mean"] + row["minus single"]["half_width"] < 0
    assert row["there at most"] < 1e-4  # the fallback
    assert results["settings"]["judged"] == 200
