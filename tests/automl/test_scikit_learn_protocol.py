"""scikit-learn's own checks of estimators."""

import pytest

import metahpo as mh

NOT_OURS = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a row twice is two rows of the folds, a row of weight two is one"
    )
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        mh.automl.Classifier(models=["linear", "discriminant"], budget=9, folds=2),
        mh.automl.Regressor(models=["linear", "neighbours"], budget=9, folds=2),
    ],
    ids=["classifier", "regressor"],
)
@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_estimators_pass(estimator):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    found = checks.check_estimator(estimator, expected_failed_checks=NOT_OURS, on_skip=None)
    assert sum(one["status"] == "passed" for one in found) > 50
    assert {one["check_name"] for one in found if one["status"] == "failed"} <= set(NOT_OURS)


def test_it_stands_in_scikit_learns_tools():
    sklearn = pytest.importorskip("sklearn")
    from sklearn.base import clone, is_classifier, is_regressor
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    del sklearn
    model = mh.automl.Classifier(models=["linear"], budget=8, folds=2)
    assert is_classifier(model) and is_regressor(mh.automl.Regressor())
    copy = clone(model).set_params(budget=4)
    assert repr(copy) == "Classifier(budget=4, folds=2, models=['linear'])"
    with pytest.raises(ValueError, match="no parameter 'depth' of Classifier"):
        model.set_params(depth=3)
    x = [[i / 10, i % 3] for i in range(40)]
    scores = cross_val_score(make_pipeline(StandardScaler(), copy), x, [i > 20 for i in range(40)])
    assert scores.mean() > 0.85
