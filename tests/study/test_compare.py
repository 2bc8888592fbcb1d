"""Comparing on a problem of one's own: equal budgets, paired differences, files and resume."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo import report
from metahpo.study.methods import population

SPACE = {"rate": mh.Float(0.01, 1.0, log=True), "kind": mh.Choice(("plain", "shifted"))}


FAMILY = mh.TaskFamily(
    sample=lambda key: jax.random.normal(key, (2,)),
    init=lambda key, task: jnp.zeros(2),
    loss=lambda params, task, split: ((params - task) ** 2).sum(),
    describe=lambda task: task,
)
PROBLEM = mh.problems.training(
    FAMILY, lambda h: optax.sgd(jnp.where(h["kind"] == 0, h["rate"], 0.5 * h["rate"]))
)
DEFAULT = {"rate": 0.1, "kind": "plain"}
STEPS = 4


def distance(key, hparams, task, state):
    return jnp.linalg.norm(state.params - task)


def compared(methods, **options):
    sizes = {"budget": 8, "steps": STEPS, "tasks": 3, "seeds": 2, "progress": False}
    return mh.compare(PROBLEM, SPACE, methods, **sizes | options)


@pytest.fixture(scope="module")
def found():
    methods = {
        "default": DEFAULT,
        "random": mh.strategies.random(SPACE, 4),
        "pbt": mh.study.searched(mh.strategies.pbt(SPACE, 8), intervals=2),
        "descent": mh.hypergrad.reverse(PROBLEM, STEPS),
    }
    return compared(methods, metric=distance, metric_label="distance")


@pytest.mark.slow
def test_every_method_spends_the_budget_and_not_more(found):
    evaluations = {name: one.trials.loss.shape[2] * one.trials.cost for name, one in found.items()}
    assert evaluations == {"default": 8, "random": 8, "pbt": 8, "descent": 12}
    # Of the last round only what the budget covers counts: two hypergradients of three trainings.
    best = found["descent"].trials.loss[:, :, :2].min(axis=2)
    np.testing.assert_array_equal(found["descent"].reached.loss[-1], best)


def test_fixed_hyperparameters_are_trained_as_they_are_given(found):
    tasks = mh.study.make_setting(
        PROBLEM, SPACE, STEPS, None, tasks=3, seeds=2, budget=8, seed=0
    ).tasks
    exact = (np.asarray(tasks) ** 2).sum(axis=1) * 0.8 ** (2 * STEPS)  # gradient descent by 0.1
    loss = found["default"].reached.loss[-1]
    np.testing.assert_allclose(loss, np.broadcast_to(exact[:, None], (3, 2)), rtol=1e-5)
    score = found["default"].reached.score[-1]
    np.testing.assert_allclose(score, np.sqrt(loss), rtol=1e-5)


def test_a_method_is_the_search_of_its_own_keys(found):
    setting = mh.study.make_setting(PROBLEM, SPACE, STEPS, None, tasks=3, seeds=2, budget=8, seed=0)
    alone = mh.search(
        setting.keys[1, 0],
        PROBLEM,
        SPACE,
        mh.strategies.random(SPACE, 4),
        rounds=2,
        steps=STEPS,
        task=setting.tasks[1],
    )
    loss = found["random"].trials.loss[1, 0]
    np.testing.assert_allclose(loss, alone.history.loss.reshape(-1), rtol=1e-5)


def test_the_table_has_paired_differences_from_the_first_method(found):
    default, random = found.rows[:2]
    assert default["- default"] is None
    pairs = found["random"].reached.loss[-1] - found["default"].reached.loss[-1]
    assert random["- default"] == report.interval(pairs.mean(axis=1))
    assert str(found).splitlines()[0].split()[:3] == ["method", "@1", "@2"]


def test_files_and_resume_take_what_is_finished(tmp_path):
    calls = []

    def own(setting):
        calls.append("own")
        return mh.study.fixed(DEFAULT)(setting)

    first = compared({"own": own}, directory=tmp_path)
    again = compared({"own": own, "more": DEFAULT}, directory=tmp_path, resume=True)
    assert calls == ["own"]
    np.testing.assert_array_equal(first["own"].trials.loss, again["own"].trials.loss)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"results.json", "table.md", "loss_against_budget.png", "parts"} <= names
    assert "score_by_method.png" not in names  # there was no metric
    assert report.load_json(tmp_path / "results.json")["settings"]["budget"] == 8
    with pytest.raises(ValueError, match="budget is 8 there, 4 here"):
        compared({"own": own}, directory=tmp_path, resume=True, budget=4)


def test_tasks_may_be_given():
    given = compared({"default": DEFAULT}, tasks=jnp.ones((2, 2)), budget=1)
    np.testing.assert_allclose(given["default"].trials.loss, 2 * 0.8 ** (2 * STEPS), rtol=1e-5)


def test_a_mapping_trains_at_its_prediction():
    network = mh.transfer.network(SPACE, DEFAULT | {"kind": 0}, jnp.zeros(2), jnp.ones(2))
    weights = jax.vmap(network.init)(jax.random.split(jax.random.key(0), 2))
    losses = compared({"mapping": mh.study.mapped(network, weights)})["mapping"].trials.loss
    assert losses.shape == (3, 2, 8)
    assert np.isfinite(losses).all()


def test_a_population_is_read_off_a_strategy():
    assert population(mh.strategies.cma_es(SPACE, 7)) == 7


@pytest.mark.parametrize(
    ("methods", "options", "message"),
    [
        ({}, {}, "at least one method"),
        ({"a": 3}, {}, "the method 'a' must be a Strategy"),
        ({"a": {"rate": 0.1}}, {}, "do not match the space"),
        ({"a": mh.strategies.random({"x": mh.Float(0, 1)}, 4)}, {}, "space"),
        ({"a": mh.hypergrad.reverse(PROBLEM, 3)}, {}, "trainings of 3 updates"),
        ({"a": DEFAULT}, {"budget": 0}, "budget"),
        ({"a": DEFAULT}, {"reference": "b"}, "reference must be one of a, got 'b'"),
        ({"a": DEFAULT}, {"resume": True}, "resume=True needs the directory"),
        ({"a": DEFAULT}, {"tasks": jnp.ones(())}, "one leading axis"),
        (
            {"a": mh.study.searched(mh.strategies.pbt(SPACE, 9), intervals=2)},
            {},
            "at most the budget of 8",
        ),
        (
            {"a": mh.study.searched(mh.strategies.pbt(SPACE, 8), intervals=3)},
            {},
            "3 intervals must divide",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(methods, options, message):
    with pytest.raises(ValueError, match=message):
        compared(methods, **options)


def test_a_strategy_whose_trainings_differ_in_length_is_refused():
    with pytest.raises(ValueError, match="such as hyperband, cannot be compared yet"):
        mh.study.searched(mh.strategies.hyperband(SPACE, 9, 9))
