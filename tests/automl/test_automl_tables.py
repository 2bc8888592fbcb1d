"""Tables of the user become arrays, by rules that are learned once; mistakes are refused."""

import datetime
import warnings

import numpy as np
import pytest

from metahpo.automl import tables
from metahpo.automl.tables import buckets
from metahpo.automl.tables.dates import parts_of, seconds
from metahpo.automl.tables.encoder import LEVELS


def encoded(x, new=None):
    columns = tables.read(x)
    encoder = tables.learn(columns)
    return encoder, *tables.encode(encoder, columns if new is None else tables.read(new))


def test_numbers_are_scaled_robustly_and_gaps_are_marked():
    encoder, x, codes = encoded({"a": [1e12, 1e12 + 1, 1e12 + 2, None], "b": [True, False] * 2})
    assert encoder.numbers == ["a", "a is missing", "b"] and codes.shape == (4, 0)
    np.testing.assert_allclose(x[:, 0], [-1, 0, 1, np.nan])  # single precision has them apart
    np.testing.assert_array_equal(x[:, 1], [0, 0, 0, 1])


def test_categories_are_indicators_and_codes_and_new_values_are_none_of_them():
    towns = ["Rome", "Oslo", "Rome", None, "Bern"]
    encoder, x, codes = encoded({"town": towns}, {"town": ["Oslo", None, "Paris"]})
    assert encoder.numbers[0] == "town = Rome" and encoder.codes == ["town"]
    assert x.sum(1).tolist() == [1, 1, 0]
    assert codes[2, 0] == LEVELS and codes[1, 0] == len(encoder.rules[0].levels) - 1


def test_many_values_are_codes_alone_and_the_rarest_share_one():
    values = [f"v{i}" for i in range(300)] * 2
    encoder, x, codes = encoded({"many": values})
    assert x.shape == (600, 0) and encoder.codes == ["many"]
    assert len(np.unique(codes)) == LEVELS + 1 and codes.max() == LEVELS


def test_dates_are_told_by_their_parts():
    days = ["2024-02-29", None, "2023-12-31 23:00"]
    found = parts_of(seconds(np.array(days, object)))
    for place, day in (
        (0, datetime.datetime(2024, 2, 29)),
        (2, datetime.datetime(2023, 12, 31, 23)),
    ):
        stamp = day.replace(tzinfo=datetime.UTC).timestamp()
        assert found[:, place].tolist() == [stamp, day.month - 1, day.weekday(), day.hour]
    assert np.isnan(found[:, 1]).all()
    assert seconds(np.array(["2024-02-31"], object)) is None  # there is no such day
    encoder, x, _ = encoded({"when": np.array(["2024-01-01", "2024-03-01"], "datetime64[D]")})
    assert encoder.rules[0].kind == "date" and x.shape == (2, 4)


def test_columns_that_say_nothing_are_left_out():
    table = {"same": ["a"] * 30, "none": [None] * 30, "id": [f"n{i}" for i in range(30)]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encoder, x, codes = encoded(table | {"x": list(range(30))})
    assert [rule.kind for rule in encoder.rules] == ["left out"] * 3 + ["number"]
    assert x.shape[1] == 1 and codes.shape[1] == 0
    assert len(caught) == 1 and "'id' is left out" in str(caught[0].message)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_data_frame_is_read_as_its_columns(library):
    frames = pytest.importorskip(library)
    values = {
        "a": [1.5, None, 2.0],
        "t": ["x", "y", "x"],
        "d": [datetime.date(2024, 1, i) for i in (1, 2, 3)],
    }
    _, plain, codes = encoded(values)
    _, x, own = encoded(frames.DataFrame(values))
    np.testing.assert_array_equal(x, plain)
    np.testing.assert_array_equal(own, codes)
    if library == "pandas":
        frame = frames.DataFrame(values).astype({"t": "category", "a": "Float64"})
        np.testing.assert_array_equal(encoded(frame)[1], plain)


@pytest.mark.parametrize(
    ("x", "rule"),
    [
        (np.zeros(3), "Reshape your data"),
        (np.zeros((0, 3)), "must have rows"),
        (np.zeros((3, 0)), "must have columns"),
        (np.zeros((3, 1), complex), "Complex data not supported"),
        ({"a": [1, 2], "b": [1]}, "of one length"),
        ({"a": [1.0, np.inf]}, "infinity in the column 'a'"),
    ],
)
def test_what_is_no_table_is_refused(x, rule):
    with pytest.raises(ValueError, match=rule):
        encoded(x)


def test_other_columns_than_those_of_training_are_refused_by_name():
    with pytest.raises(ValueError, match=r"missing \['b'\].*unseen at fit time \['c'\]"):
        encoded({"a": [1, 2], "b": [3, 4]}, {"a": [1], "c": [2]})
    with pytest.raises(ValueError, match="has 1 features, but it is expecting 2 features"):
        encoded(np.ones((3, 2)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="'a' must be numbers as in fit"):
        encoded({"a": [1, 2]}, {"a": ["one", "two"]})


def test_targets_that_are_none_are_refused():
    with pytest.raises(ValueError, match="one class"):
        tables.labels(["a", "a"], 2)
    with pytest.raises(ValueError, match="must not be constant, got 2"):
        tables.numbers([2, 2, 2], 3)
    with pytest.raises(ValueError, match="a Regressor predicts numbers"):
        tables.labels([0.5, 1.5], 2)
    with pytest.raises(ValueError, match="a Classifier predicts labels"):
        tables.numbers(["a", "b"], 2)
    with pytest.raises(ValueError, match="must not be missing"):
        tables.labels(["a", None], 2)
    with pytest.raises(ValueError, match="for each of the 3 rows, got 2"):
        tables.labels(["a", "b"], 3)


def test_folds_are_stratified_and_keep_groups_together():
    classes = np.array([0] * 40 + [1] * 10)
    found = tables.folds(50, 5, seed=0, classes=classes)
    assert np.bincount(found[classes == 1]).tolist() == [2] * 5
    assert (found == tables.folds(50, 5, seed=0, classes=classes)).all()
    assert (found != tables.folds(50, 5, seed=1, classes=classes)).any()
    groups = np.arange(50) // 4
    held = tables.folds(50, 5, seed=0, classes=classes, groups=groups)
    assert all(len(set(held[groups == g])) == 1 for g in range(13)) and len(set(held)) == 5
    for wrong, rule in (
        ({"n": 3, "count": 5}, r"as many rows as folds \(5\), got 3"),
        ({"n": 4, "count": 3, "groups": [0, 0, 1, 1]}, r"as many groups as folds \(3\), got 2"),
        ({"n": 4, "count": 2, "groups": [0, 1]}, "groups must be one a row"),
    ):
        with pytest.raises(ValueError, match=rule):
            tables.folds(**wrong, seed=0)


def test_buckets_hold_what_they_are_for():
    for bucket in (buckets.rows, buckets.columns, buckets.classes):
        sizes = {bucket(n) for n in range(1, 2000)}
        assert all(bucket(n) >= n for n in range(1, 2000)) and len(sizes) < 20
    assert buckets.codes(0) == 0 and buckets.codes(3) == 4
