"""How parameters are drawn and learned, against distributions and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.strategies.de import memory

improvements, remembered = jax.jit(memory.improvements), jax.jit(memory.remembered)
DRAW = jnp.asarray((np.arange(20_000) + 0.5) / 20_000)  # every quantile once


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("location", [0.0, 0.05, 0.5, 1.0])
def test_weights_are_cauchy_drawn_anew_until_positive_and_cut_at_one(location, x64):
    rng = np.random.default_rng(0)
    drawn = location + 0.1 * rng.standard_cauchy(400_000)
    expected = np.sort(np.minimum(drawn[drawn > 0], 1.0))
    with jax.enable_x64(x64):
        weight = np.asarray(jax.jit(memory.cauchy)(jnp.asarray(DRAW, float), location))
    assert weight.min() > 0 and weight.max() <= 1
    assert (np.diff(weight) >= 0).all()
    levels = np.linspace(0.02, 0.98, 25)
    # The largest distance between the two distribution functions, Kolmogorov's p = 1e-4.
    grid = np.quantile(expected, levels[expected[(levels * len(expected)).astype(int)] < 1])
    ours = np.searchsorted(np.sort(weight), grid) / len(weight)
    theirs = np.searchsorted(expected, grid) / len(expected)
    assert np.abs(ours - theirs).max() < 2.2 / len(expected) ** 0.5
    np.testing.assert_allclose((weight == 1).mean(), (expected == 1).mean(), atol=0.004)


@pytest.mark.parametrize("end", [0.0, float(np.nextafter(np.float32(1), np.float32(0)))])
def test_the_extreme_draws_give_lawful_parameters(end):
    for location in (0.0, 0.5, 1.0):
        weight = memory.cauchy(jnp.float32(end), location)
        rate = memory.normal(jnp.float32(end), location)
        assert 0 < weight <= 1 and 0 <= rate <= 1


@pytest.mark.parametrize("location", [0.0, 0.3, 1.0])
def test_rates_are_normal_and_clipped(location):
    rate = np.asarray(memory.normal(DRAW, location))
    drawn = np.random.default_rng(0).normal(location, 0.1, 400_000).clip(0, 1)
    np.testing.assert_allclose(
        np.quantile(rate, [0.1, 0.3, 0.7, 0.9]), np.quantile(drawn, [0.1, 0.3, 0.7, 0.9]), atol=2e-3
    )
    for bound in (0, 1):
        np.testing.assert_allclose((rate == bound).mean(), (drawn == bound).mean(), atol=5e-3)


def test_recalled_pairs_come_from_one_entry_each_equally_often():
    ring = memory.Memory(jnp.array([0.2, 0.9]), jnp.array([0.8, -1.0]), jnp.int32(0))
    draw = jax.random.uniform(jax.random.key(1), (3, 20_000))
    weight, rate = np.asarray(jax.jit(memory.recalled)(draw, ring))
    terminal = rate == 0  # ten standard deviations below 0.8
    np.testing.assert_allclose(terminal.mean(), 0.5, atol=0.02)
    np.testing.assert_allclose(np.median(weight[~terminal]), 0.215, atol=0.02)  # of the positive
    np.testing.assert_allclose(np.median(weight[terminal]), 0.9, atol=0.02)
    np.testing.assert_allclose(rate[~terminal].mean(), 0.8, atol=0.01)


def test_gains_are_relative_to_the_largest_and_survive_infinity_and_overflow():
    big = 3e38
    before = jnp.array([5.0, jnp.inf, 2.0, jnp.inf, 1.0])
    after = jnp.array([1.0, 7.0, 1.0, jnp.inf, 1.0])
    success = after < before
    gain = improvements(success, before, after)
    np.testing.assert_allclose(gain, [1.0, 1.0, 0.25, 0.0, 0.0])
    far = improvements(jnp.ones(2, bool), jnp.array([big, 4.0]), jnp.array([-big, 2.0]))
    np.testing.assert_allclose(far, [1.0, 1.0])  # the overflow counts like the largest finite gain
    only = improvements(jnp.ones(1, bool), jnp.array([jnp.inf]), jnp.array([3.0]))
    np.testing.assert_allclose(only, [1.0])
    np.testing.assert_array_equal(
        improvements(jnp.zeros(3, bool), jnp.full(3, jnp.inf), jnp.full(3, jnp.inf)), 0
    )


def test_means_are_numpys_and_zero_when_nothing_counts():
    rng = np.random.default_rng(0)
    values, weights = rng.random(9), rng.random(9)
    np.testing.assert_allclose(
        memory.mean(values, weights), np.average(values, weights=weights), rtol=1e-6
    )
    expected = (weights * values**2).sum() / (weights * values).sum()
    np.testing.assert_allclose(memory.lehmer_mean(values, weights), expected, rtol=1e-6)
    for mean in (memory.mean, memory.lehmer_mean):
        assert mean(jnp.ones(3), jnp.zeros(3)) == 0
        assert mean(jnp.zeros(3), jnp.zeros(3)) == 0


def test_the_ring_of_the_memory_moves_only_with_a_success():
    ring = memory.first_memory(3, jnp.float32)
    nothing = remembered(ring, 0.9, 0.8, jnp.zeros(4, bool))
    jax.tree.map(np.testing.assert_array_equal, nothing, ring)
    for step in range(4):
        ring = remembered(ring, 0.1 * step, 0.2 * step, jnp.arange(4) == 2)
    np.testing.assert_allclose(ring.weight, [0.3, 0.1, 0.2], rtol=1e-6)
    np.testing.assert_allclose(ring.rate, [0.6, 0.2, 0.4], rtol=1e-6)
    assert ring.next == 1
