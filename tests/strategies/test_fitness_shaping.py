"""Ranks and utilities against their definitions; ties, failures and idle slots."""

import jax
import numpy as np
import pytest
from scipy.stats import rankdata

from metahpo.strategies.nes import fitness_shaping
from metahpo.strategies.nes.fitness_shaping import MOST_COMPARED

places, ranks = jax.jit(fitness_shaping.places), jax.jit(fitness_shaping.ranks)
centred_ranks, nes_utilities = map(
    jax.jit, (fitness_shaping.centred_ranks, fitness_shaping.nes_utilities)
)
SIZES = [1, 9, MOST_COMPARED + 70]  # all pairs compared, and sorted
SHAPES = {"ranks": ranks, "centred": centred_ranks, "utilities": nes_utilities}


def losses(size, seed=0):
    """Losses with ties; from nine on also two infinite ones and one that is not a number."""
    loss = np.random.default_rng(seed).integers(0, max(2, size // 2), size).astype(np.float32)
    if size >= 9:
        loss[[1, 4]], loss[7] = np.inf, np.nan
    return loss


def paper_utilities(loss):
    """Wierstra et al. 2014: by place; tied losses share the average of their places."""
    n = len(loss)
    raw = np.maximum(0, np.log(n / 2 + 1) - np.log(np.arange(1, n + 1)))
    by_place = raw / raw.sum() - 1 / n
    clean = np.where(np.isfinite(loss), loss, np.inf)
    ordered = by_place[np.argsort(np.argsort(clean, kind="stable"))]
    return np.array([ordered[clean == x].mean() for x in clean])


@pytest.mark.parametrize("size", SIZES)
def test_ranks_are_scipys_average_ranks_with_failures_last(size):
    loss = losses(size)
    expected = rankdata(np.where(np.isfinite(loss), loss, np.inf), method="average") - 1
    np.testing.assert_array_equal(ranks(loss), expected)
    better, equal = places(loss)
    assert better.dtype == equal.dtype == np.int32


@pytest.mark.parametrize("size", SIZES[1:])
def test_centred_ranks_fall_evenly_from_one_half_to_minus_one_half(size):
    shuffled = np.random.default_rng(1).permutation(size)
    weights = np.asarray(centred_ranks(np.float32(shuffled)))
    np.testing.assert_allclose(weights[np.argsort(shuffled)], np.linspace(0.5, -0.5, size), 1e-5)
    assert abs(np.sum(centred_ranks(losses(size)))) < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_utilities_are_the_papers(size):
    loss = losses(size)
    with jax.enable_x64(True):
        utilities = np.asarray(jax.jit(fitness_shaping.nes_utilities)(loss.astype(np.float64)))
    np.testing.assert_allclose(utilities, paper_utilities(loss), rtol=1e-10, atol=1e-15)
    assert utilities.sum() == pytest.approx(0.0, abs=1e-14)


@pytest.mark.parametrize("value", [3.0, np.inf, np.nan])
@pytest.mark.parametrize("size", SIZES)
def test_constant_losses_weigh_exactly_nothing(size, value):
    loss = np.full(size, value, np.float32)
    np.testing.assert_array_equal(centred_ranks(loss), 0.0)
    np.testing.assert_array_equal(nes_utilities(loss), 0.0)
    np.testing.assert_array_equal(nes_utilities(loss, np.arange(size) % 3 == 0), 0.0)


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("name", SHAPES)
def test_idle_slots_do_not_count(name, size):
    loss = losses(size, seed=2)
    active = np.random.default_rng(3).random(size) < 0.6
    shape = SHAPES[name]
    weights = np.asarray(shape(loss, active))
    np.testing.assert_array_equal(weights[~active], 0.0)
    np.testing.assert_allclose(weights[active], shape(loss[active]), atol=2e-6)
    np.testing.assert_array_equal(shape(loss, np.zeros(size, bool)), 0.0)


@pytest.mark.parametrize("name", SHAPES)
def test_weights_follow_the_slots_and_depend_on_the_order_alone(name):
    loss = losses(9)
    order = np.random.default_rng(4).permutation(9)
    weights = np.asarray(SHAPES[name](loss))
    np.testing.assert_array_equal(SHAPES[name](loss[order]), weights[order])
    np.testing.assert_array_equal(SHAPES[name](np.exp(3.0 * loss)), weights)
