"""``Classifier`` and ``Regressor``: whole searches in small."""

import jax
import numpy as np
import pytest

import metahpo as mh
from metahpo.automl import tables
from metahpo.automl.metrics import METRICS
from metahpo.automl.models import FAMILIES, Task
from metahpo.automl.programs import fitting

pytestmark = pytest.mark.optimised

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: compiled.append(seconds) if "backend_compile" in name else None
)
FEW = {"models": ["linear", "discriminant"], "budget": 20, "folds": 3}


def table(n=90, seed=0):
    rng = np.random.default_rng(seed)
    size, kind = rng.normal(size=n), rng.choice(["red", "green", "blue"], n)
    y = np.where(size + (kind == "red") + 0.3 * rng.normal(size=n) > 0.5, "yes", "no")
    x = {"size": np.where(rng.random(n) < 0.1, np.nan, size), "kind": kind.astype(object)}
    return x | {"noise": rng.normal(size=n)}, y


def part(x, rows):
    return {name: column[rows] for name, column in x.items()}


@pytest.fixture(scope="module")
def fitted():
    x, y = table()
    return mh.automl.Classifier(**FEW).fit(x, y)


def test_a_table_with_categories_and_gaps_is_learned(fitted):
    x, y = table(n=300, seed=1)
    assert fitted.score(x, y) > 0.85
    chances = fitted.predict_proba(x)
    np.testing.assert_allclose(chances.sum(1), 1.0)
    assert fitted.classes_.tolist() == ["no", "yes"] and fitted.n_features_in_ == 3
    assert fitted.feature_names_in_.tolist() == ["size", "kind", "noise"]


def test_out_of_fold_predictions_have_the_score(fitted):
    _, y = table()
    p = fitted.out_of_fold_
    own = np.where(y == "yes", p[:, 1], p[:, 0])
    assert fitted.score_ == pytest.approx(-np.log(own).mean(), rel=1e-4)
    best = fitted.leaderboard()[0]
    assert fitted.score_ <= best["log loss"] + 1e-6 and best["worse by"].mean == 0
    assert sum(row["share"] for row in fitted.leaderboard()) == pytest.approx(1)


def test_the_same_seed_gives_the_same_bits_and_less_budget_is_the_beginning_of_more(fitted):
    x, y = table()
    again = mh.automl.Classifier(**FEW).fit(x, y)
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))
    less = mh.automl.Classifier(**FEW | {"budget": 11}).fit(x, y)
    assert [t.loss for t in less.trials_] == [t.loss for t in fitted.trials_[:11]]
    assert less.trainings_ == 11 and less.rounds_ == [("linear", 8), ("discriminant", 3)]
    other = mh.automl.Classifier(**FEW | {"seed": 1}).fit(x, y)
    assert [t.loss for t in other.trials_] != [t.loss for t in fitted.trials_]


def test_another_table_in_the_same_bucket_compiles_nothing(fitted):
    x, y = table(n=120, seed=5)
    before = len(compiled)
    again = mh.automl.Classifier(**FEW).fit(x | {"more": x["noise"] ** 2}, y)
    again.predict(x | {"more": x["noise"]})
    assert len(compiled) == before
    mh.automl.Classifier(**FEW).fit(*table(n=300))
    assert len(compiled) > before  # another bucket does: the counter counts


def test_programs_have_no_data_in_them():
    x, y = np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) % 2
    padded = tables.pad(
        x, np.zeros((50, 0), np.int32), y, np.ones(50), np.arange(50) % 2, classes=2
    )
    for name, family in FAMILIES.items():
        unit = np.full((family.population, mh.space.size(family.space("binary"))), 0.5, "f4")
        run = fitting(family, Task("binary", 2, 1), METRICS["log loss"])
        traced = run.trace(jax.random.key(0), unit, padded)
        sizes = [np.size(constant) for constant in traced.jaxpr.consts]
        assert max(sizes, default=0) < 256, name


def test_a_deadline_ends_between_rounds_and_its_budget_repeats_it():
    x, y = table()
    cut = mh.automl.Classifier(**FEW, deadline=1e-9).fit(x, y)
    assert cut.stopped_ == "deadline" and cut.rounds_ == [("linear", 8)]
    again = mh.automl.Classifier(**FEW | {"budget": cut.trainings_}).fit(x, y)
    np.testing.assert_array_equal(again.predict_proba(x), cut.predict_proba(x))


def test_a_saved_estimator_predicts_as_before(fitted, tmp_path):
    x, y = table()
    fitted.save(tmp_path / "model.npz")
    loaded = mh.automl.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.predict_proba(x), fitted.predict_proba(x))
    assert loaded.pipeline() == fitted.pipeline() and repr(loaded) == repr(fitted)
    assert [r["hyperparameters"] for r in loaded.leaderboard()] == [
        r["hyperparameters"] for r in fitted.leaderboard()
    ]
    mh.report.save_npz(tmp_path / "other.npz", {"about": np.ones(2)})
    with pytest.raises(ValueError, match="holds no estimator of metahpo.automl"):
        mh.automl.load(tmp_path / "other.npz")


def test_refit_trains_the_members_once_more_on_all_rows(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = x @ [1.0, -2.0] + 0.1 * rng.normal(size=60)
    found = mh.automl.Regressor(models=["linear"], budget=1, folds=3, refit=True).fit(x, y)
    z = (x - x.mean(0)) / x.std(0)
    penalty = found.leaderboard()[0]["hyperparameters"]["penalty"] * len(x)
    slopes = np.linalg.solve(z.T @ z + penalty * np.eye(2), z.T @ (y - y.mean()))
    np.testing.assert_allclose(found.predict(x), y.mean() + z @ slopes, rtol=1e-4, atol=1e-4)
    folds = mh.automl.Regressor(models=["linear"], budget=1, folds=3).fit(x, y)
    assert abs(folds.predict(x) - found.predict(x)).max() > 1e-3
    np.testing.assert_array_equal(folds.out_of_fold_, found.out_of_fold_)

    table_, labels = table()
    models = ["linear", "neighbours", "discriminant"]
    whole = mh.automl.Classifier(models=models, budget=24, folds=3, refit=True).fit(table_, labels)
    assert {member.family for member in whole.model_.members} == set(models)
    assert all(a.shape[:2] == (1, 1) for m in whole.model_.members for a in m.weights.values())
    unseen, truth = table(n=300, seed=1)
    assert whole.score(unseen, truth) > 0.85
    whole.save(tmp_path / "model.npz")
    loaded = mh.automl.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.predict_proba(unseen), whole.predict_proba(unseen))


def test_importances_find_the_columns_that_matter(fitted):
    x, y = table(n=200, seed=2)
    rows = fitted.explain(x, y, repeats=4)
    assert [row["column"] for row in rows] == ["size", "kind", "noise"]
    size, _, noise = (row["importance"] for row in rows)
    assert size.mean - size.half_width > 0.1 and abs(noise.mean) < 0.1 and size.n == 4
    with pytest.raises(ValueError, match=r"labels must be those of fit.*maybe"):
        fitted.explain(part(x, [0, 1]), ["maybe", "no"])


def test_groups_validate_together_and_weights_count():
    x, y = table()
    groups = np.arange(90) // 9
    plain = mh.automl.Classifier(**FEW | {"budget": 8}).fit(x, y)
    held = mh.automl.Classifier(**FEW | {"budget": 8}).fit(x, y, groups=groups)
    assert held.score_ != plain.score_
    weighted = mh.automl.Classifier(**FEW | {"budget": 8}).fit(x, y, sample_weight=y == "yes")
    assert weighted.predict_proba(x)[:, 1].mean() > plain.predict_proba(x)[:, 1].mean() + 0.2


def test_a_regression_is_in_the_units_of_its_target_and_takes_any_strategy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2))
    y = 1e6 + 50 * x[:, 0] + rng.normal(size=80)
    model = mh.automl.Regressor(
        models=["linear", "neighbours"], budget=24, folds=4, metric="MAE",
        strategy=mh.strategies.differential_evolution,
    ).fit(x, y)  # fmt: skip
    assert model.score_ == pytest.approx(np.abs(model.out_of_fold_ - y).mean(), rel=1e-3)
    assert model.score_ < 1.5 and model.score(x, y) > 0.99
    assert isinstance(model.space, mh.OneOf) and model.space.names == ("linear", "neighbours")
    loss = [trial.loss for trial in model.trials_ if trial.family == "linear"]
    assert model.rounds_[2][0] == "linear" and np.mean(loss[8:]) < np.mean(loss[:8])


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"budget": 0}, "budget must be a whole number of at least 1, got 0"),
        ({"folds": 1}, "folds must be a whole number of at least 2, got 1"),
        ({"deadline": -1.0}, "deadline must be positive"),
        ({"models": ["svm"]}, "models must be one of .*'svm'"),
        ({"metric": "RMSE"}, "metric must be one of .*'RMSE'"),
        ({"strategy": lambda s, p: mh.strategies.hypergradient(s, p)}, "strategy must be one"),
    ],
)
def test_settings_that_are_none_are_refused(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        mh.automl.Classifier(**FEW | arguments).fit(*table())


def test_tables_that_cannot_be_learned_are_refused():
    x, y = table(n=20)
    model = mh.automl.Classifier(**FEW)
    with pytest.raises(ValueError, match="no column of X says anything"):
        model.fit({"same": [1] * 20}, y)
    with pytest.raises(ValueError, match="at least 5 rows, got n_samples = 3"):
        model.fit(part(x, range(3)), y[:3])
    with pytest.raises(ValueError, match="no model of .* is for a regression"):
        mh.automl.Regressor(models=["discriminant"]).fit(x, np.arange(20.0))
    with pytest.raises(ValueError, match="not fitted yet"):
        model.predict(x)
