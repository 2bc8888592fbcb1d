"""Losses of any size, for a Gaussian process."""

import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.surrogates.warping import WORST, compressed, warped

ALL = jnp.ones(8, bool)


def test_better_half_keeps_its_distances():
    loss = jnp.array([1.0, 2.0, 4.0, 5.0, 50.0, 500.0, 1e7, jnp.inf])
    y = np.asarray(compressed(loss, ALL))
    np.testing.assert_allclose((y[0] - y[1]) / (y[1] - y[2]), 0.5, rtol=1e-5)
    assert (np.diff(y) <= 0).all()
    assert y[6] == y[7]


def test_mean_is_0_and_variance_1():
    y = np.asarray(compressed(jnp.arange(8.0) ** 3, ALL))
    np.testing.assert_allclose([y.mean(), y.var()], [0, 1], atol=1e-6)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_neither_scale_nor_offset_matters(scale):
    loss = jnp.array([0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0])
    np.testing.assert_allclose(compressed(scale * loss, ALL), compressed(loss, ALL), rtol=1e-4)
    np.testing.assert_allclose(compressed(loss + 64, ALL), compressed(loss, ALL), atol=1e-5)


@pytest.mark.parametrize("loss", [np.full(8, 3.0), np.full(8, np.nan), np.full(8, np.inf)])
def test_equal_losses_are_all_0(loss):
    np.testing.assert_array_equal(compressed(jnp.asarray(loss), ALL), np.zeros(8))


def test_what_is_masked_out_does_not_count():
    mask = ALL.at[3].set(False)
    one, other = (compressed(jnp.arange(8.0).at[3].set(value), mask) for value in (jnp.nan, -1e30))
    np.testing.assert_array_equal(one, other)
    assert one[3] == 0


def test_slopes_are_quotients_of_neighbours():
    loss = jnp.array([1.0, 2.0, 4.0, 5.0, 5.01, 50.0, 50.1, 1e7])
    y, slope = (np.asarray(x) for x in warped(loss, ALL))
    within = (y[1] - y[0]) / (loss[1] - loss[0])
    np.testing.assert_allclose(slope[:4], within, rtol=1e-5)
    for i in (3, 5):
        quotient = (y[i + 1] - y[i]) / (loss[i + 1] - loss[i])
        np.testing.assert_allclose((slope[i] + slope[i + 1]) / 2, quotient, rtol=1e-2)
    assert slope[7] == 0 and np.log1p(1e7) > WORST


@pytest.mark.slow
def test_there_is_no_slope_where_there_is_no_scale():
    mask = jnp.arange(8) < 2
    np.testing.assert_array_equal(warped(jnp.array([1.0, 3.0] + [0.0] * 6), mask)[1], 0)
    slope = warped(jnp.array([1.0, 3.0, jnp.inf, jnp.nan, 2.0, 0.0, 0.0, 0.0]), ALL)[1]
    assert (slope[2:4] == 0).all() and (slope[4:] < 0).all()
