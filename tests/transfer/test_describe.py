"""Descriptors against PMLB's own, against scipy, and of tables with every kind of gap."""

import gzip
import importlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import metahpo as mh
from metahpo import transfer

module = importlib.import_module(
    "metahpo.transfer.describe"
)  # the package has a function of that name

DATA = Path(os.environ.get("METAHPO_DATA", Path(mh.__file__).parents[2] / "shared" / "data"))
PMLB = DATA / "pmlb" / "classification"


def pmlb(name):
    with gzip.open(PMLB / f"{name}.tsv.gz", "rt") as file:
        head = file.readline().strip().split("\t")
        table = np.loadtxt(file, delimiter="\t")
    at = head.index("target")
    return np.delete(table, at, 1), table[:, at]


@pytest.mark.skipif(not PMLB.exists(), reason="needs the data sets of PMLB")
def test_the_44_descriptors_of_pmlb_are_its_own():
    past = transfer.read_pmlb(DATA / "mapping" / "pmlb_SVC.npz")
    assert past.names == module.NAMES[:44]
    there = {path.name[:-7] for path in PMLB.iterdir()}
    # The constant column of these two counts as categorical there.
    odd = {"flare", "solar-flare_2"}
    checked = 0
    for name, row in zip(past.tasks, past.descriptors, strict=True):
        if name not in there:
            continue
        x, y = pmlb(name)
        constant = [name in odd and len(np.unique(column)) == 1 for column in x.T]
        found = transfer.describe(x, y, kind="classification", categorical=constant)
        wanted = dict(zip(past.names, row, strict=True))
        for each in past.names:
            assert found[each] == pytest.approx(wanted[each], rel=1e-6, abs=1e-6, nan_ok=True), (
                name,
                each,
            )
        checked += 1
    assert checked == 54


def test_moments_are_those_of_scipy_whatever_is_missing():
    rng = np.random.default_rng(0)
    table = np.exp(rng.normal(size=(60, 5)))
    table[rng.uniform(size=table.shape) < 0.2] = np.nan
    kwargs = {"bias": False, "nan_policy": "omit"}
    np.testing.assert_allclose(module.skewness(table), stats.skew(table, **kwargs), rtol=1e-10)
    np.testing.assert_allclose(module.kurtosis(table), stats.kurtosis(table, **kwargs), rtol=1e-10)


def test_a_table_with_gaps_and_symbols_has_all_numbers_that_it_can_have():
    rng = np.random.default_rng(0)
    color = rng.choice(np.array(["red", "green", "blue"], object), 200)
    size = rng.normal(size=200).astype(object)
    size[::7] = None
    color[3] = None
    noise = rng.normal(size=200).astype(object)
    x = np.stack([color, size, noise], axis=1)
    y = np.where(color == "red", "yes", "no")
    found = transfer.describe(x, y)
    assert found["n_categorical"] == 1 and found["symbols_max"] == 3 and found["n_numerical"] == 2
    assert found["missing"] == pytest.approx((29 + 1) / 600)
    assert found["rows_missing"] == pytest.approx(30 / 200)
    # The color says the class: the information is the entropy of the class.
    assert found["mutual_information_max"] == pytest.approx(found["entropy_dependent"], rel=1e-9)
    assert found["landmark_linear"] == pytest.approx(1.0)
    assert found["landmark_baseline"] == pytest.approx(0.5)
    gone = {name for name, value in found.items() if np.isnan(value)}
    assert gone == {n for n in module.NAMES if n.startswith("corr_with_dependent")}


def test_a_regression_has_correlations_and_no_classes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = 2.0 * x[:, 0] + 1e-3 * rng.normal(size=400)
    found = transfer.describe(x, y)
    wanted = np.abs([np.corrcoef(column, y)[0, 1] for column in x.T])
    assert found["corr_with_dependent_abs_max"] == pytest.approx(wanted.max(), rel=1e-9)
    assert found["corr_with_dependent_abs_75p"] == pytest.approx(np.percentile(wanted, 75))
    assert np.isnan(found["n_classes"]) and found["landmark_linear"] > 0.99
    assert 0.3 < found["landmark_stump"] < 0.9 and found["landmark_baseline"] < 0.05


def test_landmarks_tell_problems_apart():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(500, 2))
    checker = transfer.describe(x, (x[:, 0] > 0) ^ (x[:, 1] > 0))
    line = transfer.describe(x, x[:, 0] > x[:, 1])
    step = transfer.describe(x, x[:, 0] > 0.2)
    assert checker["landmark_nearest_neighbour"] > 0.85 > 0.65 > checker["landmark_linear"]
    assert line["landmark_linear"] > 0.95 > line["landmark_stump"]
    assert step["landmark_stump"] > 0.93
    noise = transfer.describe(x, rng.integers(0, 2, 500))
    assert all(0.4 < noise[name] < 0.6 for name in module.landmarks.NAMES)


def test_constants_single_columns_and_rare_classes_are_described():
    alone = transfer.describe(np.ones((5, 1)), np.array([0, 0, 0, 0, 1]))
    assert alone["kurtosis_mean"] == -3 and alone["skew_mean"] == 0
    assert alone["constant_columns"] == 1 and np.isnan(alone["pca_fraction_95"])
    assert not np.isinf(list(alone.values())).any()
    one_class = transfer.describe(np.arange(6.0)[:, None], np.zeros(6, int))
    assert one_class["n_classes"] == 1 and np.isnan(one_class["landmark_linear"])


def test_a_large_table_takes_less_than_a_second():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20_000, 100)), rng.integers(0, 10, 20_000)
    start = time.process_time()
    transfer.describe(x, y)
    assert time.process_time() - start < 2  # of all threads; 0.3 s of one


@pytest.mark.parametrize(
    ("x", "y", "given", "message"),
    [
        (np.zeros(3), np.zeros(3), {}, r"x must be \[rows, columns\]"),
        (np.zeros((3, 1)), np.zeros(2), {}, r"y must be \[3\]"),
        (np.zeros((1, 1)), np.zeros(1), {}, "at least two rows"),
        (np.zeros((2, 1)), np.array([0.0, np.nan]), {}, "y must not be missing"),
        (np.full((2, 1), np.inf), np.array([0, 1]), {}, "x must be finite"),
        (np.zeros((2, 1)), np.array([0, 1]), {"categorical": [True] * 2}, "must have 1 flags"),
        (np.zeros((2, 1)), np.array(["a", "b"]), {"kind": "regression"}, "finite numbers"),
        (np.zeros((2, 1)), np.array([0, 1]), {"kind": "other"}, "kind must be one of"),
    ],
)
def test_what_is_no_table_is_refused(x, y, given, message):
    with pytest.raises(ValueError, match=message):
        transfer.describe(x, y, **given)
