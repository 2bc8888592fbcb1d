"""PBT on digits: lineages, schedules trained again, equal budgets, and the committed comparison."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from experiments import pbt_digits as study
from metahpo.comparisons import digits

RESULTS = Path(study.__file__).parent / "results" / "pbt_digits" / "results.json"


def test_a_lineage_follows_the_parents_of_the_best_member_of_the_last_round():
    unit = jnp.arange(12.0).reshape(4, 3, 1)  # round r, member i: 3 r + i
    parent = jnp.array([[-1, -1, -1], [0, 1, 1], [0, 0, 2], [2, 1, 2]])
    loss = jnp.zeros((4, 3)).at[3].set(jnp.array([1.0, 2.0, 3.0]))
    lineage = jax.jit(study.lineage)
    # Member 0 in the end came from 2, 2 and 1.
    np.testing.assert_array_equal(lineage(unit, parent, loss)[:, 0], [1, 5, 8, 9])
    np.testing.assert_array_equal(lineage(unit, parent, -loss)[:, 0], [1, 5, 8, 11])
    again = parent.at[2].set(-1)  # all started again in round 2
    np.testing.assert_array_equal(lineage(unit, again, loss)[:, 0], [8, 8, 8, 9])


def test_a_constant_schedule_is_an_ordinary_training():
    setting = digits.setting(0, 1, 1, 1)
    task = jax.tree.map(lambda leaf: leaf[0], setting.tasks)
    key, hparams = setting.keys[0, 0], digits.defaults()
    unit = mh.space.encode(digits.SPACE, hparams)
    schedule = jnp.broadcast_to(unit, (study.INTERVALS, len(study.NAMES)))
    loss, accuracy = jax.jit(study.train)(key, task, schedule)
    expected, state = jax.jit(mh.inner.outer_loss(digits.problem(), digits.STEPS))(
        key, hparams, task
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-3)
    right = digits.test_accuracy(key, hparams, task, state)
    np.testing.assert_allclose(accuracy, right, atol=0.01)


def test_no_method_spends_more_than_the_budget():
    for budget in (8, 32):
        for name, method in study.METHODS.items():
            strategy = method.make(budget)
            asked = jax.eval_shape(lambda s=strategy: s.ask(KEY, s.init(KEY))[0])
            assert asked.unit.shape[0] == method.members(budget)
            spent = method.rounds(budget) * method.members(budget) * method.cost
            assert 0.75 * budget <= spent <= budget, name
            assert digits.STEPS % method.intervals == 0


KEY = jax.random.key(0)


def test_committed_pbt_beats_random_search_and_its_schedules_decay():
    results = json.loads(RESULTS.read_text())
    rows = {row["method"]: row for row in results["rows"]}
    assert results["settings"]["inner steps"] == 3200
    for name in ("PBT", "PBT, tournament"):
        assert rows[name]["trainings"] == 32
        for column in ("validation loss - random", "retrained - random"):
            assert rows[name][column]["n"] == 24
            assert rows[name][column]["mean"] + rows[name][column]["half_width"] < 0
        rates = results["median schedules"][name]["learning_rate"]
        assert rates[-1] < 0.7 * max(rates)
