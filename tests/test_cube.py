"""The unit cube's geometry, against what is easily seen."""

import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import cube


def test_reflection_folds_the_real_line_at_both_bounds():
    points = jnp.array([0.3, -0.2, 1.25, 2.5, -3.75, 0.0, 1.0])
    expected = [0.3, 0.2, 0.75, 0.5, 0.25, 0.0, 1.0]
    np.testing.assert_allclose(cube.reflected(points), expected, atol=1e-6)


def test_half_a_cell_of_an_integer_is_half_of_the_distance_between_its_borders():
    space = {"f": mh.Float(0.0, 1.0), "i": mh.Int(1, 4), "k": mh.Int(1, 9, log=True)}
    dims = list(mh.space.dimensions(space).values())
    unit = jnp.array([[0.3, 0.3, 0.0], [0.9, 0.9, 0.999]])
    widest, narrowest = np.log(1.5 / 0.5) / np.log(19), np.log(9.5 / 8.5) / np.log(19)
    expected = [[0.0, 1 / 8, widest / 2], [0.0, 1 / 8, narrowest / 2]]
    np.testing.assert_allclose(cube.half_a_cell(dims, unit), expected, rtol=1e-5)


def test_integers_are_one_point_to_the_process_wherever_they_stand_in_their_cell():
    dims = [mh.Int(1, 4), mh.Float(0.0, 1.0)]
    unit = jnp.array([[0.26, 0.1], [0.49, 0.1], [0.51, 0.1]])
    np.testing.assert_allclose(cube.snapped(dims, unit), [[0.375, 0.1], [0.375, 0.1], [0.625, 0.1]])


@pytest.mark.parametrize(
    ("number", "up", "expected"),
    [(1, True, 2), (1, False, 2), (3, True, 4), (3, False, 2), (4, True, 3), (4, False, 3)],
)
def test_the_next_number_is_inside_the_bounds(number, up, expected):
    found = cube.next_number(mh.Int(1, 4), jnp.int32(number), jnp.bool_(up))
    assert int(found) == expected


def test_another_choice_is_each_of_the_others_equally_often():
    u = (jnp.arange(300) + 0.5) / 300
    found = np.asarray(cube.another_choice(mh.Choice(tuple("abcd")), jnp.int32(1), u))
    assert np.bincount(found, minlength=4).tolist() == [100, 0, 100, 100]
    alone = cube.another_choice(mh.Choice(("only",)), jnp.int32(0), u)
    assert not alone.any()
