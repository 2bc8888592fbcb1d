"""Random numbers: the same generator as JAX's, and uniform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo import draws

pytestmark = pytest.mark.versions

KEY = jax.random.key(7)


def test_the_two_words_of_a_block_make_the_bits_of_jax():
    x, y = draws.words(KEY, (30, 7))
    np.testing.assert_array_equal(x ^ y, jax.random.bits(KEY, (30, 7), jnp.uint32))
    assert not np.array_equal(x, y)


def test_lanes_of_vmap_draw_what_their_keys_draw_alone():
    keys = jax.random.split(KEY, 3)
    lanes = jax.vmap(lambda key: draws.uniform(key, (5, 3)))(keys)
    for key, lane in zip(keys, lanes, strict=True):
        np.testing.assert_array_equal(lane, draws.uniform(key, (5, 3)))


def test_keys_of_another_implementation_work():
    rbg = jax.random.key(3, impl="rbg")
    assert len(np.unique(draws.words(rbg, (1000,))[0])) == 1000
    old = jax.random.key_data(KEY)
    np.testing.assert_array_equal(draws.words(old, (9,))[1], draws.words(KEY, (9,))[1])


@pytest.mark.parametrize("name", ["uniforms", "weights"])
@pytest.mark.parametrize("x64", [False, True])
def test_numbers_are_uniform_independent_and_below_one(x64, name):
    with jax.enable_x64(x64):
        u, v = (np.asarray(x) for x in getattr(draws, name)(KEY, (100_000,)))
        assert u.dtype == np.dtype("float64" if x64 else "float32")
        top = np.asarray(draws.unit_interval(jnp.array([0, 2**32 - 1], jnp.uint32)))
        assert top[0] == 0.0 and 0.9999 < top[1] < 1.0
    counts, *_ = np.histogram2d(u, v, bins=10, range=[[0, 1], [0, 1]])
    assert ((counts - 1000) ** 2 / 1000).sum() < 160  # 99 degrees of freedom: p = 1e-4
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 5 / 100_000**0.5


def test_weights_are_the_middles_of_equal_parts():
    u, v = (np.asarray(x) for x in draws.weights(KEY, (501, 3)))
    for weight in (u, v):
        assert weight.shape == (501, 3) and 0 < weight.min() < 0.01 and 0.99 < weight.max() < 1
        np.testing.assert_array_equal(np.mod(weight * 2**16, 1), 0.5)


def test_an_odd_number_of_numbers_has_no_repeats():
    u = np.asarray(draws.uniform(KEY, (3, 7)))
    assert u.shape == (3, 7) and len(np.unique(u)) == 21


def test_integers_are_equally_often_each_number_below_the_bound():
    drawn = np.asarray(draws.integers(KEY, (7, 10_000), 7)).ravel()
    counts = np.bincount(drawn, minlength=7)
    assert len(counts) == 7
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 28  # 6 degrees of freedom: p = 1e-4


@pytest.mark.parametrize("x64", [False, True])
def test_normal_is_the_quantile_and_finite_at_the_ends(x64):
    with jax.enable_x64(x64):
        u = jnp.array([0.15865525, 0.5, 0.97724987])
        np.testing.assert_allclose(draws.normal(u), [-1.0, 0.0, 2.0], atol=3e-6)
        ends = draws.unit_interval(jnp.array([0, 2**32 - 1], jnp.uint32))
        assert np.isfinite(draws.normal(ends)).all()
