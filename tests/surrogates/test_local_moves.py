"""Candidates in a box of mixed dimensions, against their distributions; the kernel's distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.surrogates import local_moves as lm

DIMS = [
    mh.Float(0.0, 1.0),
    mh.Int(1, 8),
    mh.Choice(("a", "b", "c", "d")),
    mh.Int(1, 64, log=True),
    mh.Float(0.0, 1.0),
]
CENTRE = jnp.array([0.5, 0.5625, 0.375, 0.6, 0.05])  # 0.5, 5, b, about 11, near a bound
COUNT = 4000


def box(length, rate=0.3):
    return lm.Box(DIMS, jnp.float32(length), CENTRE, rate)


def candidates(length, rate=0.3):
    rows = jax.random.uniform(jax.random.key(0), (COUNT, 2 * len(DIMS)))
    return np.asarray(lm.moved(box(length, rate), CENTRE, rows))


def numbers(points, column):
    return np.asarray(DIMS[column].decode(jnp.asarray(points[..., column])))


def share(found, expected):
    return abs(found - expected) < 5 * (expected * (1 - expected) / COUNT) ** 0.5


def test_floats_are_uniform_in_the_box_cut_at_the_bounds():
    points = candidates(0.2)
    for column, low, high in ((0, 0.4, 0.6), (4, 0.0, 0.15)):
        assert points[:, column].min() >= low - 1e-6 and points[:, column].max() <= high + 1e-6
        drawn = (points[:, column] - low) / (high - low)
        assert abs(drawn.mean() - 0.5) < 5 / (12 * COUNT) ** 0.5
        assert abs(drawn.var() - 1 / 12) < 0.01


def test_in_a_small_box_integers_go_one_up_or_down_and_choices_to_any_other_value():
    points = candidates(1e-3, rate=0.4)
    assert share((numbers(points, 1) != 5).mean(), 0.4)  # above one in three discrete ones
    assert set(numbers(points, 1)) == {4, 5, 6}
    assert share((numbers(points, 1) == 6).mean(), 0.2)
    start = int(numbers(CENTRE, 3))
    assert set(numbers(points, 3)) == {start - 1, start, start + 1}
    for value in (0, 2, 3):
        assert share((numbers(points, 2) == value).mean(), 0.4 / 3)


def test_one_discrete_coordinate_in_the_mean_moves_but_choices_only_as_often_as_asked():
    points = candidates(1e-3, rate=0.0)
    assert share((numbers(points, 1) != 5).mean(), 1 / 3)
    assert (numbers(points, 2) == 1).all()


def test_in_a_large_box_an_integer_leaves_its_cell_as_often_as_a_float_would():
    points = candidates(0.5)
    assert share((numbers(points, 1) != 5).mean(), 1 - 0.125 / 0.5)
    assert set(numbers(points, 1)) == {3, 4, 5, 6, 7}


def test_an_integer_on_its_bound_is_mirrored():
    u = jnp.array([0.1, 0.9])
    found = [DIMS[1].decode(lm.another_number(DIMS[1], jnp.full(2, at), 0.01, u)) for at in (0, 1)]
    np.testing.assert_array_equal(found, [[2, 2], [7, 7]])


def test_neighbours_stay_in_the_box_and_keep_choices():
    rows = jax.random.uniform(jax.random.key(1), (COUNT, 2 * len(DIMS)))
    best = CENTRE.at[0].set(0.59)
    points = np.asarray(lm.refined(box(0.2), CENTRE, best, rows, 0.1))
    assert points[:, 0].min() == pytest.approx(0.57, abs=1e-3)
    assert points[:, 0].max() == pytest.approx(0.6, abs=1e-6)  # the box's edge, not 0.61
    assert (points[:, 2] == CENTRE[2]).all()


def test_distances_count_edges_cells_and_different_choices():
    def squares(length, **changes):
        points = jnp.stack([CENTRE, CENTRE])
        for column, value in changes.items():
            points = points.at[1, int(column[1:])].set(value)
        first, second = np.asarray(lm.embedded(box(length), points), float)
        return ((first - second) ** 2).sum()

    assert squares(0.01, d0=0.53) == pytest.approx(9.0, rel=1e-4)
    assert squares(0.01, d1=0.6875) == pytest.approx(1.0, rel=1e-4)  # the next number: a cell
    assert squares(0.25, d1=0.6875) == pytest.approx(0.25, rel=1e-4)  # half an edge
    assert squares(0.25, d1=0.51) == pytest.approx(0.0, abs=1e-8)  # the same number
    for value in (0.1, 0.6, 0.9):
        assert squares(0.01, d2=value) == pytest.approx(lm.APART**2, rel=1e-4)
