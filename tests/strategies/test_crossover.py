"""Crossover: distributions in closed form, and those of an independent implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.strategies.genetic_algorithms import crossover

KEY = jax.random.key(0)
LINE = {"x": mh.Float(0.0, 1.0)}
PAIRS = 100_000
LEVELS = np.array([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
# First children of two parents: pymoo 0.6.2, cross_sbx with prob_var 1, prob_bin 0.5, bounds 0 and
# 1, 400,000 pairs, numpy.random.default_rng(0); quantiles at LEVELS.
PYMOO_PAIRS = 400_000
PYMOO = {
    (0.1, 0.3, 5): [0.03752, 0.07052, 0.10009, 0.2229, 0.29999, 0.33085, 0.37164],
    (0.4, 0.5, 15): [0.38888, 0.39475, 0.4, 0.41455, 0.5, 0.50529, 0.51117],
    (0.02, 0.9, 2): [0.00385, 0.01823, 0.09689, 0.43886, 0.85566, 0.95854, 0.99023],
}


def pairs(a, b, count=PAIRS, size=1):
    return jnp.stack([jnp.full((count, size), a), jnp.full((count, size), b)])


def children(cross, parents):
    out = np.asarray(jax.jit(cross)(KEY, parents))
    assert out.shape == parents.shape and out.dtype == parents.dtype
    return out


def kolmogorov(sample, distribution):
    """The largest distance between a sample's distribution function and the true one."""
    x = np.sort(sample)
    f, n = distribution(x), len(x)
    return max((np.arange(1, n + 1) / n - f).max(), (f - np.arange(n) / n).max())


@pytest.mark.parametrize("eta", [0, 2, 15, 2.5])
def test_sbx_spreads_children_by_the_polynomial_density_and_keeps_the_mean(eta):
    with jax.enable_x64(True):
        out = children(crossover.sbx(LINE, eta, 1.0), pairs(0.4999, 0.5001))
    np.testing.assert_allclose(out.mean(axis=0), 0.5, atol=1e-3 if eta == 0 else 1e-9)
    factor = np.abs(out[0, :, 0] - 0.5) / 1e-4

    # The bounds cut off less than 2e-4 even at eta = 0.
    def truth(b):
        return np.where(b <= 1, b ** (eta + 1) / 2, 1 - b ** -(eta + 1.0) / 2)

    assert kolmogorov(factor, truth) < 1.95 / PAIRS**0.5 + 2e-4  # p = 0.001
    lower = (out[0] < out[1]).mean()
    assert abs(lower - 0.5) < 5 * 0.5 / PAIRS**0.5


@pytest.mark.parametrize(("a", "b", "eta"), PYMOO)
def test_bounded_sbx_has_the_quantiles_of_pymoo(a, b, eta):
    out = children(crossover.sbx(LINE, eta, 1.0), pairs(a, b))
    assert out.min() >= 0 and out.max() <= 1
    for child in out[..., 0]:
        below = (child[:, None] <= np.array(PYMOO[a, b, eta])).mean(axis=0)
        error = np.sqrt(LEVELS * (1 - LEVELS) * (1 / PAIRS + 1 / PYMOO_PAIRS))
        assert (np.abs(below - LEVELS) < 5 * error).all()


@pytest.mark.parametrize("ends", [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.3, 0.3)])
def test_sbx_of_equal_parents_or_of_the_corners_stays_put_or_inside(ends):
    out = children(crossover.sbx(LINE, 5, 1.0), pairs(*ends, 1000))
    assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 1
    if ends[0] == ends[1]:
        np.testing.assert_array_equal(out, np.float32(ends[0]))


def test_every_coordinate_of_every_pair_has_draws_of_its_own():
    space = {"x": mh.Float(0.0, 1.0, shape=(4,))}
    parents = pairs(0.4, 0.6, 20_000, 4)
    out = children(crossover.sbx(space, 5, 0.5), parents)[0]
    crossed = (out != np.float32(0.4)) & (out != np.float32(0.6))
    assert abs(crossed.mean() - 0.5) < 5 * 0.5 / 80_000**0.5
    factor = np.where(crossed, np.abs(out - 0.5) / 0.1, 1.0)
    for table in (crossed.astype(float), factor, (out > 0.5).astype(float)):
        correlation = np.corrcoef(table.T) - np.eye(4)
        assert np.abs(correlation).max() < 5 / 20_000**0.5
        lag = np.corrcoef(table[1:, 0], table[:-1, 0])[0, 1]
        assert abs(lag) < 5 / 20_000**0.5


def test_choices_are_exchanged_and_never_averaged():
    space = {"c": mh.Choice(tuple("abcde")), "x": mh.Float(0.0, 1.0)}
    parents = jnp.tile(jnp.array([[[0.1, 0.2]], [[0.9, 0.3]]]), (1, 10_000, 1))
    out = children(crossover.sbx(space, 2, 1.0), parents)
    choice, number = out[..., 0], out[..., 1]
    assert set(np.unique(choice)) == set(np.float32([0.1, 0.9]))
    assert (choice[0] != choice[1]).all()
    assert abs((choice[0] == np.float32(0.9)).mean() - 0.5) < 5 * 0.5 / 100
    assert len(np.unique(number)) > 9000


def test_uniform_crossover_exchanges_every_coordinate_by_itself():
    parents = jnp.stack([jnp.zeros((20_000, 5)), jnp.ones((20_000, 5))])
    out = children(crossover.uniform(0.3), parents)
    np.testing.assert_array_equal(out.sum(axis=0), 1.0)
    np.testing.assert_allclose(out[0].mean(axis=0), 0.3, atol=5 * (0.21 / 20_000) ** 0.5)
    correlation = np.corrcoef(out[0].T) - np.eye(5)
    assert np.abs(correlation).max() < 5 / 20_000**0.5


@pytest.mark.parametrize("count", [1, 2])
def test_points_exchange_one_run_of_coordinates_at_random_places(count):
    size = 5
    parents = jnp.stack([jnp.zeros((20_000, size)), jnp.ones((20_000, size))])
    out = children(crossover.points(count), parents)
    np.testing.assert_array_equal(out.sum(axis=0), 1.0)
    runs, times = np.unique(out[0], axis=0, return_counts=True)
    expected = {
        tuple(float(start <= i < end) for i in range(size))
        for start in range(size)
        for end in range(start + 1, size + 1)
        if (end == size and start > 0 if count == 1 else end < size)
    }
    assert {tuple(run) for run in runs} == expected
    share = 20_000 / len(expected)
    assert ((times - share) ** 2 / share).sum() < 35  # at most 9 degrees of freedom: p = 1e-4


def test_points_leave_a_single_coordinate_alone():
    for count in (1, 2):
        out = children(crossover.points(count), pairs(0.2, 0.7, 10))
        np.testing.assert_array_equal(out, pairs(0.2, 0.7, 10))


def test_sometimes_crosses_whole_pairs_at_the_rate():
    parents = jnp.stack([jnp.zeros((20_000, 3)), jnp.ones((20_000, 3))])
    out = children(crossover.sometimes(crossover.uniform(1.0), 0.8), parents)[0]
    assert (out == out[:, :1]).all()
    assert abs(out[:, 0].mean() - 0.8) < 5 * (0.16 / 20_000) ** 0.5


def test_numbers_may_be_traced():
    @jax.jit
    def cross(eta, rate):
        return crossover.sbx(LINE, eta, rate)(KEY, pairs(0.2, 0.7, 1000))

    static = crossover.sbx(LINE, 5, 1.0)(KEY, pairs(0.2, 0.7, 1000))
    np.testing.assert_allclose(cross(5.0, 1.0), static, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: crossover.sbx(LINE, -1), "eta must be finite and at least 0, got -1"),
        (lambda: crossover.sbx(LINE, 5, 1.5), r"coordinate_rate must be in \[0, 1\], got 1.5"),
        (lambda: crossover.uniform(-0.1), r"rate must be in \[0, 1\], got -0.1"),
        (lambda: crossover.points(3), "1 or 2 points, got 3"),
        (lambda: crossover.sometimes(crossover.uniform(), 2), r"in \[0, 1\], got 2"),
    ],
)
def test_impossible_crossovers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
