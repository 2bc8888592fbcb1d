"""The float leaves of hyperparameters, taken out and put back."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo import floats

pytestmark = pytest.mark.versions

MIXED = {
    "a": np.float32(2.0),
    "b": np.array([1, 2]),
    "c": (jnp.array([[3.0, 4.0]], jnp.bfloat16), True, jax.random.key(0)),
}


def test_split_and_merge_are_inverse_and_keep_types():
    leaves, merge = floats.split(MIXED)
    assert [leaf.dtype for leaf in leaves] == [jnp.float32, jnp.bfloat16]
    chex.assert_trees_all_equal(merge(leaves), jax.tree.map(jnp.asarray, MIXED))
    changed = merge([leaf + 1 for leaf in leaves])
    assert changed["a"] == 3 and changed["b"].tolist() == [1, 2] and changed["c"][1]


def test_ravel_and_merge_are_inverse_and_keep_types():
    flat, merge, gradient_tree = floats.ravel(MIXED)
    assert flat.tolist() == [2.0, 3.0, 4.0]
    chex.assert_trees_all_equal_shapes_and_dtypes(merge(flat), jax.tree.map(jnp.asarray, MIXED))
    floats_only = {"a": MIXED["a"], "b": MIXED["b"]}
    flat, _, gradient_tree = floats.ravel(floats_only)
    grad = gradient_tree(5 * flat)
    assert grad["a"] == 10 and grad["b"].tolist() == [0, 0]


def test_hyperparameters_without_floats_are_refused():
    with pytest.raises(ValueError, match="need a float leaf"):
        floats.split({"width": 3})
