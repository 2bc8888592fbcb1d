"""What a fold learns of the features, it learns from the rows that it trains on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.automl import preprocessing, tables
from metahpo.automl.preprocessing import SMOOTHING, TRANSFORMS, apply, learn

N, FOLDS = 60, 3


def table(seed=0, weight=None):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 2)).astype(np.float32)
    x[rng.random(N) < 0.2, 0] = np.nan
    codes = rng.integers(4, size=(N, 1)).astype(np.int32)
    y = (rng.random(N) < 0.4).astype(np.int32)
    weight = np.ones(N) if weight is None else weight
    return tables.pad(x, codes, y, weight, np.arange(N) % FOLDS, 2)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_rows_that_validate_do_not_change_what_their_fold_sees(transform):
    program = jax.jit(lambda t: apply(learn(t, FOLDS, transform), t.rows, t.fold, transform))
    plain = table()
    own = np.asarray(plain.fold) == 0
    rows = tables.Rows(
        np.where(own[:, None], 1e3, plain.rows.x), np.where(own[:, None], 3, plain.rows.codes)
    )
    changed = plain._replace(rows=rows, y=np.where(own, 1 - plain.y, plain.y).astype(np.int32))
    before, after = np.asarray(program(plain)), np.asarray(program(changed))
    others = ~own & (np.asarray(plain.fold) >= 0)
    np.testing.assert_array_equal(before[0, others], after[0, others])
    assert np.isfinite(before).all()
    assert (before[1, others] != after[1, others]).any()  # the other folds train on them
    assert (before[:, :, 2:8] == 0).all() or transform == "raw"  # padding says nothing


def test_a_code_is_the_mean_of_the_target_among_others():
    weight = np.random.default_rng(1).uniform(0.5, 2.0, N)
    t = table(weight=weight)
    found = np.asarray(apply(learn(t, FOLDS, "raw"), t.rows, t.fold, "raw"))[..., 8]
    new = np.asarray(apply(learn(t, FOLDS, "raw"), t.rows, None, "raw"))[..., 8]
    codes, y, fold = (np.asarray(a)[:N] for a in (t.rows.codes[:, 0], t.y, t.fold))
    weight = np.asarray(t.weight)[:N]
    for f in range(FOLDS):
        train = fold != f
        prior = np.average(y[train], weights=weight[train])
        for row in range(0, N, 7):
            for value, kept in ((found, train & (fold != fold[row])), (new, train)):
                same = kept & (codes == codes[row])
                total = weight[same].sum() + SMOOTHING
                expected = ((weight * y)[same].sum() + SMOOTHING * prior) / total
                assert value[f, row] == pytest.approx(expected, abs=1e-5)


def test_transforms_do_what_they_are_called():
    t = table()
    weights = np.asarray(preprocessing.fold_weights(t, FOLDS))
    x = {
        name: np.asarray(apply(learn(t, FOLDS, name), t.rows, t.fold, name)) for name in TRANSFORMS
    }
    for f in range(FOLDS):
        train = weights[f] > 0
        raw = x["raw"][f, train, :2]
        known = ~np.isnan(np.asarray(t.rows.x)[train, 0])
        assert raw[~known, 0] == pytest.approx(raw[known, 0].mean(), abs=1e-5)
        standard = x["standard"][f, train, :2]
        np.testing.assert_allclose(standard, (raw - raw.mean(0)) / raw.std(0), atol=1e-4)
        low, middle, high = np.quantile(raw, (0.25, 0.5, 0.75), axis=0)
        z = (raw - middle) / (high - low) * 1.349
        np.testing.assert_allclose(
            x["clipped"][f, train, :2], z / np.sqrt(1 + (z / 3) ** 2), atol=1e-4
        )
        # Of ranks: as between, and nearly normal.
        normal = x["normal"][f, train, 1]
        assert (np.argsort(normal) == np.argsort(raw[:, 1])).all()
        assert abs(normal.mean()) < 0.05 and normal.std() == pytest.approx(1, abs=0.12)


def test_quantiles_are_those_of_numpy():
    rng = np.random.default_rng(0)
    z, there = rng.normal(size=(40, 3)), rng.random(40) < 0.7
    at = np.linspace(0, 1, 9)
    found = preprocessing.quantiles(jnp.asarray(z), jnp.asarray(there), at)
    np.testing.assert_allclose(found, np.quantile(z[there], at, axis=0), atol=1e-6)
