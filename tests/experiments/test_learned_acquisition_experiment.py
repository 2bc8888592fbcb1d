"""Numbers of Bayesian optimisation learned over tasks: what is held out, committed results."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from experiments import learned_acquisition as study

RESULTS = Path(study.__file__).parent / "results" / "learned_acquisition" / "results.json"
SIZE = study.QUICK._replace(evaluations=6, rounds=2, tasks=1, pairs=1, seeds=3, held_out=2)


@pytest.fixture
def made(monkeypatch):
    """Five tasks on one hyperparameter, whose best value is the task's number in tenths."""
    problem = mh.problems.function(lambda h: h["x"])
    problem = problem._replace(loss=lambda key, h, task, state: (h["x"] - task / 10) ** 2)
    monkeypatch.setattr(mh.problems, "surrogate", lambda read, metric: problem)
    ranges = {study.METRIC: np.zeros(5)}, {study.METRIC: np.ones(5)}
    space = {"x": mh.Float(0.0, 1.0)}
    return SimpleNamespace(space=space, instances="abcde", best=ranges[0], worst=ranges[1])


def test_what_is_held_out_is_not_learned_from(made):
    tasks = jax.vmap(study.campaign(made, SIZE).sample)(jax.random.split(jax.random.key(0), 50))
    assert set(tasks.tolist()) == {0, 2, 4}


def test_numbers_move_and_are_judged_by_whole_runs(made):
    found = study.search("UCB, learned", made, SIZE)
    assert found.losses.shape == (2,) and np.isfinite(found.losses).all()
    assert not np.allclose(found.numbers, list(study.BOUND.values()))
    assert found.regret.shape == (2, 3, 6)
    assert (np.diff(found.regret) <= 0).all() and (found.regret >= 0).all()
    alike = found._replace(numbers=found.numbers[1:])
    rows = study.tabulate({name: alike for name in study.METHODS if "UCB" not in name})
    assert rows[0]["regret at the end"].mean == pytest.approx(found.regret[..., -1].mean())
    assert rows[1]["minus default's"].mean == 0


def test_the_loss_of_a_run_is_the_mean_regret_of_its_incumbents(made):
    problem = study.campaign(made, SIZE)
    state = study.Run((), jnp.float32(0.25), jnp.float32(1.5), jnp.int32(3))
    assert problem.loss(None, {}, 0, state) == 0.5


def test_committed_numbers_were_learned_and_judged_with_many_seeds():
    results = json.loads(RESULTS.read_text())
    rows = {row["method"]: row for row in results["rows"]}
    assert set(rows) == set(study.METHODS)
    for name, row in rows.items():
        assert row["regret at the end"]["n"] == results["settings"]["seeds"] >= 20
        moved = abs(np.log(row["length"])) > 1e-3
        assert moved == row["learned"] == (len(results["learning"].get(name, [])) > 0)
