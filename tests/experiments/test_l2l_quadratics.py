"""The quadratics of learning to learn: the grids, and what is committed."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import l2l_quadratics as study
from metahpo import report

RESULTS = Path(study.__file__).parent / "results" / "l2l_quadratics" / "results.json"


def test_mean_losses_are_those_of_a_loop_over_the_problems(monkeypatch):
    monkeypatch.setattr(study, "PROBLEMS", 3)
    monkeypatch.setattr(study, "STEPS", 4)
    keys = jax.random.split(jax.random.key(0), 2)
    found = jax.jit(lambda: study.mean_losses(optax.sgd(0.01), keys))()
    assert found.shape == (2, 4)
    losses = []
    for key in jax.random.split(keys[1], 3):
        task = study.FAMILY.sample(key)
        w, y, x = map(np.asarray, task)
        for _ in range(4):
            x = x - 0.01 * 2 * w.T @ (w @ x - y)
        losses.append(np.sum((w @ x - y) ** 2))
    np.testing.assert_allclose(found[1, -1], np.mean(losses), rtol=1e-4)


def test_tuning_finds_the_best_cell_of_its_grid(monkeypatch):
    def losses(optimizer, keys):
        # A valley in the length of Adam's second update, which tells rate and moments apart.
        state = optimizer.init(jnp.zeros(1))
        _, state = optimizer.update(jnp.ones(1), state)
        updates, _ = optimizer.update(jnp.zeros(1), state)
        return jnp.broadcast_to(10 ** (jnp.log10(-updates) + 1) ** 2, (len(keys), 2))

    monkeypatch.setattr(study, "mean_losses", losses)
    make, moments = study.GRIDS[study.BASE]
    rate, best, found = study.tune(make, moments, jax.random.split(jax.random.key(0), 2))
    assert found.shape == (study.RATES, 9)
    at = int(np.argmin(np.abs(np.geomspace(1e-3, 1.0, study.RATES) - rate)))
    assert found[at, moments.index(best)] == found.min()


def test_the_committed_rules_beat_adam_tuned_on_the_same_distribution():
    results = report.load_json(RESULTS)
    rows = {row["optimiser"]: row for row in results["rows"]}
    assert results["settings"]["problems"] == 128 and results["settings"]["seeds"] >= 3
    assert rows["learned schedule"]["worst seed"] <= -1.26
    assert rows["learned rule"]["worst seed"] <= -1.35
    for name in ("learned schedule", "learned rule"):
        assert rows[name]["worst seed"] < rows[study.BASE]["log10 loss"]["mean"]
        minus = rows[name]["minus tuned Adam"]
        assert minus["mean"] + minus["half_width"] < 0
        assert rows[name]["meta-training, CPU s"] < 180
    assert -1.26 < rows[study.BASE]["log10 loss"]["mean"] < -1.14  # -1.197 where it was published
