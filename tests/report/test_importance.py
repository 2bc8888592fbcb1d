"""Importance: shares of a tree are exact, those of a sum known, and bad input is refused."""

import numpy as np
import pytest

import metahpo as mh
from metahpo.report.importance import _leaves, _shares
from metahpo.run.records import SearchHistory

SPACE = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(-1.0, 1.0), "z": mh.Int(1, 4)}


def history(unit, loss):
    shape = loss.shape
    return SearchHistory(
        unit, loss, np.full(shape, -1), np.ones(shape, int), None, None, ~np.isfinite(loss)
    )


def test_the_shares_of_a_tree_are_those_of_a_fine_grid():
    tree = pytest.importorskip("sklearn.tree").DecisionTreeRegressor(max_leaf_nodes=12)
    generator = np.random.default_rng(0)
    # Thresholds between multiples of 1/20 fall on the edges of a grid of 40 cells.
    points = generator.integers(20, size=(60, 2)) / 20 + 0.025
    tree.fit(points, np.sin(5 * points[:, 0]) + points[:, 0] * points[:, 1])
    middle = (np.arange(40) + 0.5) / 40
    grid = np.stack(np.meshgrid(middle, middle, indexing="ij"), axis=-1)
    value = tree.predict(grid.reshape(-1, 2)).reshape(40, 40)
    exact = [value.mean(axis=1).var() / value.var(), value.mean(axis=0).var() / value.var()]
    np.testing.assert_allclose(_shares(_leaves(tree.tree_, 2)), exact, rtol=1e-6)


@pytest.fixture(scope="module")
def found():
    pytest.importorskip("sklearn")
    unit = np.random.default_rng(0).random((4, 200, 3))
    loss = 3 * unit[..., 0] + unit[..., 1]
    loss[0, 0] = np.inf
    return unit, loss, mh.report.importance(SPACE, history(unit, loss))


def test_a_sum_is_shared_by_the_squares_of_its_slopes(found):
    shares = found[2]
    assert list(shares) == ["x", "y", "z"]
    # Variances of 9 : 1, of ranks, with what a forest of so many points does not resolve.
    assert shares["x"].mean == pytest.approx(0.9, abs=0.04)
    assert shares["y"].mean == pytest.approx(0.1, abs=0.04)
    assert shares["z"].mean < 0.01
    assert 0 < shares["x"].half_width < 0.05


def test_a_monotone_change_of_the_loss_changes_nothing(found):
    unit, loss, shares = found
    again = mh.report.importance(SPACE, history(unit, np.exp(5 * loss)))
    assert again == shares


@pytest.mark.parametrize(
    ("losses", "space", "message"),
    [
        (np.arange(7.0), SPACE, "at least 8 candidates, got 7"),
        (np.ones(9), SPACE, "losses that differ"),
        (np.arange(9.0), {"x": mh.Float(0.0, 1.0)}, "3 coordinates, but the space has 1"),
    ],
)
def test_what_cannot_be_answered_is_refused(losses, space, message):
    unit = np.zeros((1, len(losses), 3))
    with pytest.raises(ValueError, match=message):
        mh.report.importance(space, history(unit, losses[None]))
