"""The numbers of reports against closed forms and against scipy."""

import jax.numpy as jnp
import numpy as np
import pytest

from metahpo import report
from metahpo.report import best_so_far, curve, interval, regret, t_quantile

stats = pytest.importorskip("scipy.stats")


def test_best_so_far_goes_through_members_and_then_rounds():
    history = [[5.0, 6.0], [3.0, 4.0], [7.0, 2.0]]
    np.testing.assert_array_equal(best_so_far(history), [5, 5, 3, 3, 3, 2])


def test_best_so_far_keeps_seeds_apart():
    losses = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    best = best_so_far(losses)
    assert best.shape == (2, 3, 20)
    for seed, task in np.ndindex(2, 3):
        flat = losses[seed, task].ravel()
        np.testing.assert_array_equal(
            best[seed, task], [flat[: i + 1].min() for i in range(len(flat))]
        )


def test_losses_that_are_not_finite_are_never_the_best():
    losses = [np.nan, np.inf, 2.0, np.nan, -np.inf, 1.0]
    np.testing.assert_array_equal(best_so_far(losses), [np.inf, np.inf, 2, 2, 2, 1])


def test_best_so_far_keeps_single_precision_and_takes_jax_arrays():
    best = best_so_far(jnp.array([2.0, 1.0], jnp.float32))
    assert best.dtype == np.float32
    np.testing.assert_array_equal(best, [2, 1])


def test_idle_slots_are_left_out_of_the_best_so_far():
    loss = np.array([[3.0, np.inf, 5.0], [0.0, 1.0, 2.0]])
    evaluated = np.array([[True, True, True], [False, True, True]])
    np.testing.assert_array_equal(best_so_far(loss, evaluated), [3, 3, 3, 1, 1, 1])
    both = best_so_far(np.stack([loss, loss]), np.stack([evaluated, ~evaluated]))
    np.testing.assert_array_equal(both, [[3, 3, 3, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(best_so_far([2.0, 1.0], [False, False]), [np.inf, np.inf])
    with pytest.raises(ValueError, match="shape"):
        best_so_far(loss, evaluated[:, :2])


def test_regret_is_above_the_optimum_of_each_task():
    losses = np.array([[3.0, 2.0, 4.0], [1.0, 0.5, 0.25]])[:, :, None]
    np.testing.assert_array_equal(regret(losses, optimum=[2.0, 0.0]), [[1, 0, 0], [1, 0.5, 0.25]])


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 30, 59, 999, 1000, 1001, 10**6])
def test_t_quantiles_agree_with_scipy(degrees):
    for probability in (0.001, 0.05, 0.5, 0.6, 0.9, 0.975, 0.995, 0.9999):
        np.testing.assert_allclose(
            t_quantile(probability, degrees), stats.t.ppf(probability, degrees), rtol=1e-11
        )


def test_t_quantiles_of_one_and_two_degrees_have_closed_forms():
    np.testing.assert_allclose(t_quantile(0.9, 1), np.tan(np.pi * 0.4), rtol=1e-12)
    np.testing.assert_allclose(t_quantile(0.9, 2), 0.8 / np.sqrt(2 * 0.9 * 0.1), rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 20, 61])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_intervals_agree_with_scipy(n, confidence):
    values = np.random.default_rng(n).normal(3.0, 2.0, size=n)
    mean, half_width, count = interval(values, confidence)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    np.testing.assert_allclose([mean - half_width, mean + half_width], [low, high], rtol=1e-11)
    assert count == n


def test_intervals_cover_the_mean_as_often_as_they_say():
    values = np.random.default_rng(1).normal(size=(5, 4000))
    mean, half_width, _ = interval(values, 0.9)
    covered = np.mean(np.abs(mean) <= half_width)
    assert abs(covered - 0.9) < 3 * np.sqrt(0.9 * 0.1 / 4000)


def test_an_interval_needs_a_spread():
    single = interval([2.0])
    assert (single.mean, single.n) == (2.0, 1)
    assert np.isnan(single.half_width)
    infinite = interval([1.0, np.inf])
    assert infinite.mean == np.inf and np.isnan(infinite.half_width)
    assert interval([2.0, 2.0, 2.0]).half_width == 0


def test_single_precision_does_not_spoil_an_interval():
    values = np.float32(1e4) + np.arange(4, dtype=np.float32) / 256
    assert interval(values) == interval(values.astype(np.float64))


def test_a_curve_has_an_interval_at_each_budget():
    values = np.random.default_rng(2).normal(size=(6, 3))
    found = curve(values, x=[1, 2, 4])
    np.testing.assert_array_equal(found.x, [1, 2, 4])
    for i in range(3):
        mean, half_width, _ = interval(values[:, i])
        np.testing.assert_allclose([found.mean[i], found.half_width[i]], [mean, half_width])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best_so_far(1.0), "several evaluations, got 1.0"),
        (lambda: interval([]), r"at least one value, got shape \(0,\)"),
        (lambda: interval([1.0], confidence=1.0), "between 0 and 1, got 1.0"),
        (lambda: t_quantile(0.0, 3), "between 0 and 1, got 0.0"),
        (lambda: t_quantile(0.9, 0), "whole number above 0, got 0"),
        (lambda: curve([1.0, 2.0]), r"\[runs, budgets\], got \(2,\)"),
        (lambda: curve([[1.0, 2.0]], x=[1]), r"each of 2 values, got \(1,\)"),
    ],
)
def test_wrong_arguments_are_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_intervals_without_shared_differences_are_those_of_the_paired_difference():
    """With two methods half the paired difference's interval, times the square root of two."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 12)) + 10 * rng.normal(size=12)
    result = report.without_shared_differences(values)
    np.testing.assert_allclose(result.mean(axis=1), values.mean(axis=1))
    paired = report.interval(values[0] - values[1]).half_width
    for row in result:
        np.testing.assert_allclose(report.interval(row).half_width, paired / np.sqrt(2))


def test_shared_differences_are_taken_over_the_methods_that_have_a_value():
    values = np.array([[1.0, 10.0], [2.0, 11.0], [np.nan, np.nan]])
    result = report.without_shared_differences(values)
    np.testing.assert_allclose(result[:2], [[5.5, 5.5], [6.5, 6.5]])
    assert np.isnan(result[2]).all()
