"""Rows cut into what trains, what validates and what tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.problems import Split, split


def test_every_row_is_in_one_part_in_its_order():
    x, y = np.arange(20).reshape(10, 2), np.arange(10)
    parts = split(x, y, 5, 3)
    assert isinstance(parts, Split)
    np.testing.assert_array_equal(np.concatenate([part.x for part in parts]), x)
    np.testing.assert_array_equal(parts.query.y, [5, 6, 7])
    np.testing.assert_array_equal(parts.test.y, [8, 9])


def test_cuts_of_many_permutations_are_made_side_by_side():
    x, y = jnp.arange(20.0).reshape(10, 2), jnp.arange(10)

    def one(key):
        order = jax.random.permutation(key, 10)
        return split(x[order], y[order], 5, 3)

    parts = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 4))
    assert parts.support.x.shape == (4, 5, 2) and parts.test.y.shape == (4, 2)
    np.testing.assert_array_equal(parts.test.x[..., 0], 2.0 * parts.test.y)


@pytest.mark.parametrize(("train", "validation"), [(0, 3), (5, 0), (5, 5), (9, 2)])
def test_a_part_without_rows_is_refused(train, validation):
    with pytest.raises(ValueError, match=rf"{train=} and {validation=} of 10"):
        split(np.ones((10, 2)), np.ones(10), train, validation)
