"""Sobol's sequence: the published points, and what scrambling must keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import quasirandom


def unit(sequence, start, count):
    return np.asarray(quasirandom.as_fractions(quasirandom.points(sequence, start, count)))


@pytest.mark.parametrize("size", [1, 2, 10, 123, quasirandom.LARGEST_SIZE])
def test_the_points_are_those_of_scipy_to_the_bit(size):
    qmc = pytest.importorskip("scipy.stats.qmc")
    with jax.enable_x64(True):
        found = unit(quasirandom.directions(size), 0, 256)
    np.testing.assert_array_equal(found, qmc.Sobol(size, scramble=False).random(256))


def test_the_first_points_are_the_published_ones():
    # Bratley & Fox (1988), dimensions 1 and 2.
    wanted = [[0, 0], [0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [0.375, 0.375], [0.875, 0.875]]
    np.testing.assert_array_equal(unit(quasirandom.directions(2), 0, 6), wanted)


def test_a_stretch_is_part_of_the_whole():
    sequence = quasirandom.scrambled(jax.random.key(0), quasirandom.directions(5))
    later = jax.jit(lambda start: quasirandom.points(sequence, start, 20))(37)
    np.testing.assert_array_equal(later, quasirandom.points(sequence, 0, 57)[37:])


@pytest.mark.parametrize("scramble", [False, True])
def test_every_elementary_interval_holds_one_point(scramble):
    """A (0, m, 2)-net in base 2 (Niederreiter 1992): boxes of every shape and the volume 2^-m."""
    sequence = quasirandom.directions(2)
    if scramble:
        sequence = quasirandom.scrambled(jax.random.key(3), sequence)
    m = 8
    points = unit(sequence, 2**m, 2**m)  # any aligned stretch
    for rows in range(m + 1):
        cells = np.floor(points * [2**rows, 2 ** (m - rows)]).astype(int)
        assert len(np.unique(cells, axis=0)) == 2**m


def test_every_axis_is_stratified_when_scrambled():
    sequence = quasirandom.scrambled(jax.random.key(1), quasirandom.directions(40))
    cells = np.floor(unit(sequence, 0, 512) * 512).astype(int)
    assert all(len(np.unique(cells[:, d])) == 512 for d in range(40))


def test_scrambled_points_are_uniform_and_unlike_with_every_key():
    keys = jax.random.split(jax.random.key(0), 2000)
    first = jax.vmap(
        lambda key: quasirandom.as_fractions(
            quasirandom.points(quasirandom.scrambled(key, quasirandom.directions(3)), 5, 1)
        )[0]
    )
    values = np.sort(np.asarray(jax.jit(first)(keys)), axis=0)
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is exceeded once in a thousand times.
    ranks = (np.arange(2000) + 0.5) / 2000
    assert np.abs(values - ranks[:, None]).max() < 1.95 / np.sqrt(2000)


def test_scrambled_integration_beats_random_points():
    """Of a smooth product in 6 dimensions, whose integral is 1 (Sobol's g-function is alike)."""

    def error(points):
        return (np.prod(1 + (points - 0.5) / 2, axis=-1).mean(-1) - 1) ** 2

    keys = jax.random.split(jax.random.key(7), 50)
    sequence = jax.vmap(lambda key: quasirandom.scrambled(key, quasirandom.directions(6)))(keys)
    ours = jax.vmap(lambda s: quasirandom.as_fractions(quasirandom.points(s, 0, 256)))(sequence)
    random = np.random.default_rng(0).random((50, 256, 6))
    assert error(np.asarray(ours)).mean() < 0.05 * error(random).mean()


def test_single_precision_keeps_the_leading_bits():
    sequence = quasirandom.scrambled(jax.random.key(2), quasirandom.directions(3))
    single = unit(sequence, 0, 1000)
    with jax.enable_x64(True):
        double = unit(sequence, 0, 1000)
    assert single.dtype == np.float32 and single.max() < 1
    np.testing.assert_array_equal(single, np.floor(double * 2**24) / 2**24)


def test_the_strategy_goes_through_the_sequence_round_by_round():
    space = {"x": mh.Float(0.0, 1.0, shape=(3,))}
    strategy = mh.strategies.sobol(space, 5)
    problem = mh.problems.function(lambda h: h["x"].sum())
    run = jax.jit(lambda key: mh.search(key, problem, space, strategy, rounds=4, steps=1))
    result = run(jax.random.key(0))
    sequence = result.state.strategy.sequence
    found = np.asarray(result.history.unit).reshape(20, 3)
    np.testing.assert_array_equal(found, unit(jax.tree.map(jnp.asarray, sequence), 0, 20))
    assert not np.array_equal(found[0], run(jax.random.key(1)).history.unit[0, 0])


def test_sizes_that_it_does_not_have_are_refused():
    with pytest.raises(ValueError, match="at most 1024 dimensions, got 1025"):
        mh.strategies.sobol({"x": mh.Float(0.0, 1.0, shape=(1025,))}, 4)
    with pytest.raises(ValueError, match="size must be a whole number of at least 1, got 0"):
        quasirandom.directions(0)
