"""One process for all methods: what it is, what a budget counts, and what was committed."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from experiments import one_process as study

RESULTS = Path(study.__file__).parent / "results" / "one_process" / "results.json"


def test_the_best_actions_have_no_regret_on_the_process():
    process = study.process()
    places = np.cos((np.arange(study.STEPS) + 0.5) * np.pi / study.STEPS)
    curvatures = 0.505 + 0.495 * places  # a rate is the inverse of one
    hparams = {"actions": jnp.asarray(-2 * np.log(curvatures) / np.log(study.CONDITION) - 1)}
    loss = jax.jit(mh.inner.outer_loss(process, study.STEPS))(jax.random.key(0), hparams, None)[0]
    assert float(loss) == pytest.approx(-study.EXACT.optimal(), rel=1e-4)


def test_a_budget_counts_episodes():
    size = study.Size(budgets=(48, 240), seeds=1)
    found = study.learn("hypergradient", size)  # 8 starts, each charged as 3
    assert found.regrets.shape == (1, 2) and found.curve.shape == (1, len(study.points(240)))
    assert found.regrets[0, 0] >= found.regrets[0, 1] > 0


def test_an_agent_finds_more_the_more_it_plays():
    found = study.learn("REINFORCE", study.Size(budgets=(66, 660), seeds=1))
    assert found.regrets[0, 0] >= found.regrets[0, 1] > 0


def test_committed_methods_stand_in_their_order():
    results = json.loads(RESULTS.read_text())
    rows = {row["method"]: row for row in results["rows"]}
    assert results["settings"]["budgets"][-1] == 100_000
    regret = {name: rows[name]["regret @100,000"] for name in study.METHODS}
    assert all(each["n"] == 10 and each["mean"] > 0 for each in regret.values())
    means = {name: each["mean"] for name, each in regret.items()}
    order = ["DE", "CMA-ES", "hypergradient", "ES gradient", "REINFORCE", "PPO", "random search"]
    assert sorted(means, key=means.get) == order
    static = study.EXACT.optimal() - study.EXACT.static()
    assert rows["best static"]["regret @100,000"] == pytest.approx(static)
    for name in ("CMA-ES", "hypergradient", "ES gradient", "REINFORCE"):
        assert rows[name]["error ratio"]["mean"] <= 0.045
