"""A record of past evaluations: from arrays, runs, folders, tables and files; it grows."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

import metahpo as mh
from metahpo import transfer

SPACE = {
    "rate": mh.Float(0.01, 1.0, log=True),
    "kind": mh.Choice(("sgd", "adam")),
    "width": mh.Int(1, 9),
}
ROWS = [
    {"rate": 0.01, "kind": "sgd", "width": 1},
    {"rate": 0.1, "kind": "adam", "width": 5},
    {"rate": 1.0, "kind": "sgd", "width": 9},
]
DATA = Path(os.environ.get("METAHPO_DATA", Path(mh.__file__).parents[2] / "shared" / "data"))


def make(scores=((0.3, 0.1, 0.2), (0.1, np.nan, np.inf)), **given):
    descriptors = [{"rows": 10.0, "classes": 2.0}, {"rows": 99.0}]
    return transfer.experience(SPACE, descriptors, ROWS, np.array(scores), **given)


def test_losses_are_means_over_repeats_after_the_last_epoch_that_there_is():
    curves = np.full((2, 3, 2, 3), np.nan)
    curves[0, 0] = [[3.0, 2.0, 1.0], [5.0, 3.0, np.nan]]
    curves[1, 2, 1, 0] = 7.0
    past = make(curves)
    np.testing.assert_array_equal(past.losses(), [[2.0, np.nan, np.nan], [np.nan, np.nan, 7.0]])
    assert past.there.sum() == 6 and past.names == ("rows", "classes")
    assert np.isnan(past.descriptors[1, 1])


def test_configurations_come_back_as_they_were():
    got = make().hparams()
    for row, again in zip(ROWS, got, strict=True):
        assert again == {**row, "rate": pytest.approx(row["rate"], rel=1e-9)}


def test_tasks_may_have_configurations_of_their_own():
    own = transfer.experience(
        SPACE,
        [[1.0], [2.0]],
        [ROWS[:2], [ROWS[1], ROWS[2], ROWS[1]]],
        [[1.0, 2.0], [3.0, 4.0, 5.0]],
    )
    assert own.unit.shape == (3, 3) and own.scores.shape == (2, 3, 2, 1)
    by_rate = own.losses()[
        :, np.argsort(own.unit[:, list(mh.space.dimensions(SPACE)).index("rate")])
    ]
    np.testing.assert_array_equal(by_rate, [[1.0, 2.0, np.nan], [np.nan, 4.0, 4.0]])  # a repeat


def test_a_file_holds_all_of_it(tmp_path):
    space = {
        "model": mh.OneOf(svm={"C": mh.Float(0.1, 9.0, log=True)}, none={}),
        "fixed": mh.Constant(3),
        "size": mh.Choice((1, 2, None)),
        "steps": mh.Int(2, 8, step=2),
        "some": mh.Float(0.0, 1.0, shape=(2,)),
    }
    unit = np.random.default_rng(0).uniform(size=(4, mh.space.size(space)))
    scores = np.random.default_rng(1).normal(size=(2, 4, 3, 2))
    scores[0, 1, 2, 0] = np.nan
    past = transfer.experience(
        space, [[1.0], [np.nan]], unit, scores, tasks=["a", "b"], groups=["x", "x"]
    )
    transfer.save(tmp_path / "past.npz", past)
    again = transfer.load(tmp_path / "past.npz")
    assert again.space == space and again.tasks == ("a", "b") and again.names == past.names
    for name in ("descriptors", "unit", "scores", "there", "groups"):
        np.testing.assert_array_equal(getattr(again, name), getattr(past, name))
    with np.load(tmp_path / "past.npz", allow_pickle=False) as file:
        assert json.loads(file["about"].tobytes())["tasks"] == ["a", "b"]


def test_a_file_of_something_else_is_refused(tmp_path):
    mh.report.save_npz(tmp_path / "other.npz", {"x": np.ones(2)})
    with pytest.raises(ValueError, match="other.npz is no experience"):
        transfer.load(tmp_path / "other.npz")


def test_experience_grows_by_tasks_and_by_evaluations():
    past = make(tasks=["a", "b"])
    more = transfer.experience(
        SPACE,
        [{"rows": 7.0, "classes": 3.0}, {"rows": 8.0, "classes": 3.0}],
        [ROWS[1], {"rate": 0.5, "kind": "adam", "width": 2}],
        [[0.9, 0.8], [0.7, 0.6]],
        tasks=["b", "c"],
    )
    both = transfer.joined(past, more)
    assert both.tasks == ("a", "b", "c") and len(both.unit) == 4
    nan = np.nan
    np.testing.assert_array_equal(
        both.losses(), [[0.3, 0.1, 0.2, nan], [0.1, 0.9, np.inf, 0.8], [nan, 0.7, nan, 0.6]]
    )
    np.testing.assert_array_equal(both.descriptors[1], [7.0, 3.0])
    np.testing.assert_array_equal(both.unit[:3], past.unit)
    again = transfer.joined(past)
    np.testing.assert_array_equal(again.losses(), past.losses())


def test_runs_and_their_folders_become_experience(tmp_path):
    space = {"x": mh.Float(0.0, 1.0), "y": mh.Int(0, 3)}
    strategy = mh.strategies.sobol(space, population=2)

    def run(**given):
        loss = lambda h: float("nan") if h["y"] == 0 else h["x"] + h["y"]  # noqa: E731
        return mh.minimize(loss, space, strategy, rounds=4, progress=False, seed=3, **given)

    checkpoints = run(directory=tmp_path / "rounds")
    logged = run(directory=tmp_path / "log", asynchronous=True)
    searched = mh.search(
        jax.random.key(0),
        mh.problems.function(lambda h: h["x"] + h["y"]),
        space,
        strategy,
        rounds=4,
        steps=1,
    )
    runs = {"rounds": checkpoints, "log": logged, "search": searched}
    past = transfer.from_results(space, runs, [[0.0], [1.0], [2.0]])
    folders = {name: tmp_path / name for name in ("rounds", "log")}
    found = transfer.from_folders(space, folders, [[0.0], [1.0]])
    for row, name in enumerate(folders):
        seen = np.sort(past.losses()[row][past.there[row].any((1, 2))])
        kept = np.sort(found.losses()[row][found.there[row].any((1, 2))])
        np.testing.assert_array_equal(seen, kept)
        assert len(seen) == 8 and np.isinf(seen).any()
        assert seen[0] == runs[name].best_loss
    with pytest.raises(ValueError, match="there must be evaluations of a minimisation in"):
        transfer.from_folders(space, {"none": tmp_path}, [[0.0]])


def test_tables_become_experience():
    values = {"rate": [0.01, 0.1, 1.0], "kind": ["sgd", "adam", "adam"], "width": [1, 5, 9]}
    scores = np.arange(12.0).reshape(3, 2, 2)
    tables = {
        name: mh.problems.table(SPACE, values, scores + i) for i, name in enumerate(("a", "b"))
    }
    past = transfer.from_tables(tables, [[0.0], [1.0]])
    np.testing.assert_array_equal(past.scores, [scores, scores + 1])
    assert [row["kind"] for row in past.hparams()] == ["sgd", "adam", "adam"]
    assert [row["width"] for row in past.hparams()] == [1, 5, 9]


@pytest.mark.skipif(not (DATA / "mapping").exists(), reason="needs the data of PMLB's tasks")
def test_files_of_pmlb_become_experience():
    past = transfer.read_pmlb(DATA / "mapping" / "pmlb_SVC.npz")
    losses = past.losses()
    assert losses.shape == (161, 525) and past.descriptors.shape == (161, 44)
    assert (~np.isnan(losses)).all(1).sum() == 100
    with np.load(DATA / "mapping" / "pmlb_SVC.npz") as file:
        np.testing.assert_allclose(losses, 1.0 - file["bal_accuracy"].astype(float))
        configuration = json.loads(file["configs_json"][300])
    assert past.hparams([300])[0] == {**configuration}
    assert len(set(past.groups)) < len(past.tasks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [[1.0, 2.0]]}, "scores must be"),
        ({"scores": np.full((2, 3), np.nan)}, "every task must have a finite score, not so: 0"),
        ({"scores": [[1, 2, 3], [np.inf] * 3]}, "every task must have a finite score, not so: 1"),
        ({"descriptors": [[np.inf], [1.0]]}, "descriptors must be finite"),
        ({"descriptors": np.zeros((0, 1))}, "at least one task, got none"),
        ({"tasks": ["a", "a"]}, "tasks must be 2 different names"),
        ({"names": ["a", "b"]}, "names must be 1 different names"),
        ({"groups": [1]}, "groups must be one for each of 2"),
        ({"configurations": np.zeros((3, 2))}, r"must be \[C, 3\]"),
        ({"configurations": np.full((3, 3), 1.5)}, "unit cube"),
        ({"configurations": np.zeros((3, 3))}, "must stand once"),
        ({"configurations": [{**ROWS[0], "rate": 2.0}, *ROWS[1:]]}, "must lie within its space"),
        ({"configurations": [{**ROWS[0], "kind": "other"}, *ROWS[1:]]}, "must be one of"),
    ],
)
def test_bad_arrays_are_refused(change, message):
    given = {
        "descriptors": [[0.0], [1.0]],
        "configurations": np.eye(3),
        "scores": np.ones((2, 3)),
    } | change
    with pytest.raises(ValueError, match=message):
        transfer.experience(SPACE, **given)


def test_experiences_of_other_spaces_or_descriptors_are_not_joined():
    past = make()
    other = transfer.experience({"x": mh.Float(0.0, 1.0)}, [[0.0]], [[0.5]], [[1.0]])
    with pytest.raises(ValueError, match="the space must be the same"):
        transfer.joined(past, other)
    renamed = past._replace(names=("rows", "features"))
    with pytest.raises(ValueError, match="names of the experience.*classes"):
        transfer.joined(past, renamed)


def test_studies_of_optuna_become_experience():
    optuna = pytest.importorskip("optuna")
    from metahpo.integrations.optuna import to_experience

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial):
        x = trial.suggest_float("x", 0.01, 1.0, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        if trial.number == 2:
            raise RuntimeError
        return x + (kind == "b")

    studies = {}
    for name, direction in (("low", "minimize"), ("high", "maximize")):
        study = optuna.create_study(direction=direction)
        study.optimize(objective, n_trials=6, catch=RuntimeError)
        studies[name] = study
    past = to_experience(studies, [[0.0], [1.0]], ["rows"])
    assert past.tasks == ("low", "high") and past.scores.shape[:2] == (2, 12)
    losses = past.losses()
    for row, sign, study in zip(losses, (1, -1), studies.values(), strict=True):
        told = np.sort(row[~np.isnan(row)])
        values = sorted(sign * t.value for t in study.trials if t.value is not None)
        np.testing.assert_allclose(told, [*values, np.inf])
    place = int(np.nanargmin(losses[0]))
    assert past.hparams([place])[0] == pytest.approx(studies["low"].best_params)
    with pytest.raises(ValueError, match="must have the same distribution in all trials, x has"):
        other = optuna.create_study()
        other.optimize(lambda trial: trial.suggest_float("x", 0, 2), n_trials=1)
        to_experience(studies | {"other": other}, np.zeros((3, 1)))
