"""A controller on digits: plans, what is judged, and what was committed."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("sklearn")

import metahpo as mh
from experiments import digits_controller as study

RESULTS = Path(study.__file__).parent / "results" / "digits_controller" / "results.json"
TINY = study.Size(tasks=1, fresh=1, seeds=1, trainings=24)


def test_a_plan_that_stays_is_an_ordinary_training():
    tasks, keys = study.held_out(TINY)
    task, key = jax.tree.map(lambda leaf: leaf[0], tasks), keys[0, 1]
    unit = jnp.array([0.5, 0.7, 0.2])
    plan = jnp.tile(unit, (study.SEGMENTS, 1))
    judged = jax.jit(lambda: study.play(key, task, study.planned(plan)))()
    np.testing.assert_allclose(judged.units, plan, atol=1e-5)
    hparams = mh.space.decode(study.SPACE, unit)
    reset_key = jax.random.split(key)[0]
    loss = jax.jit(mh.inner.outer_loss(study.training(), study.STEPS))
    expected, _ = loss(reset_key, hparams, study.blind(task))
    np.testing.assert_allclose(judged.loss, expected, rtol=1e-3)
    assert judged.found == judged.loss and 0 <= judged.accuracy <= 1


def test_the_one_who_chooses_once_stays_where_it_is():
    name = "chooses once, hypergradient"
    weights = study.learn(name, 0, TINY)["weights"]
    judged = study.judge_controller(name, np.asarray(weights)[None], TINY)
    assert judged.loss.shape == (1, 1, 1)
    assert judged.units.shape == (1, 1, 1, study.SEGMENTS, len(study.NAMES))
    assert (judged.units == judged.units[..., :1, :]).all()


def test_the_committed_controller_beats_what_32_trainings_find():
    results = json.loads(RESULTS.read_text())
    rows = {row["method"]: row for row in results["rows"]}
    ours = rows[study.OURS]
    assert ours["on the task"] == 1 and rows[study.BASE]["on the task"] == study.BUDGET
    assert (
        min(rows[name]["test loss"]["mean"] for name in study.STATIC)
        == (rows[study.BASE]["test loss"]["mean"])
    )
    for label in ("trained again", "test loss"):  # the lowest of 32 losses is too good
        minus = ours[f"{label} - static"]
        assert minus["n"] == 32 and minus["mean"] + minus["half_width"] < 0
