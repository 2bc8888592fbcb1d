"""Run lengths, expected running times and distributions, on small examples done by hand."""

import numpy as np
import pytest

from metahpo.report import (
    BBOB_TARGETS,
    RunLengths,
    distribution,
    expected_running_time,
    run_lengths,
    running_time_interval,
)

INF = np.inf


def test_the_customary_targets_are_five_a_decade():
    assert len(BBOB_TARGETS) == 51
    np.testing.assert_allclose(BBOB_TARGETS[[0, 5, 50]], [100, 10, 1e-8])
    np.testing.assert_allclose(BBOB_TARGETS[:-1] / BBOB_TARGETS[1:], 10**0.2)


def test_a_run_length_counts_up_to_the_first_loss_at_the_target():
    loss = np.array([[[9.0, 5.0], [7.0, 5.0], [1.0, 0.5]], [[4.0, 6.0], [3.0, 3.0], [3.0, 8.0]]])
    lengths = run_lengths(loss, targets=[5.0, 0.5, 4.0, 100.0])
    np.testing.assert_array_equal(lengths.hits, [[2, 6, 5, 1], [1, INF, 1, 1]])
    np.testing.assert_array_equal(lengths.total, [6, 6])


def test_idle_slots_and_failures_are_no_successes_and_idle_slots_cost_nothing():
    loss = [[np.nan, 0.1], [INF, 0.2], [-INF, 0.05]]
    evaluated = [[True, False], [True, True], [True, True]]
    lengths = run_lengths(loss, targets=[0.3, 0.1], evaluated=evaluated)
    np.testing.assert_array_equal(lengths.hits, [3, 5])  # the idle 0.1 and -inf do not count
    assert lengths.total == 5


def test_leading_axes_stay_and_equal_single_runs():
    rng = np.random.default_rng(0)
    loss = rng.lognormal(size=(3, 4, 5, 6))
    evaluated = rng.random(loss.shape) < 0.7
    lengths = run_lengths(loss, evaluated=evaluated)
    assert lengths.hits.shape == (3, 4, 51) and lengths.total.shape == (3, 4)
    for i, j in np.ndindex(3, 4):
        values = loss[i, j][evaluated[i, j]]
        for target, hit in zip(BBOB_TARGETS, lengths.hits[i, j], strict=True):
            reached = np.flatnonzero(values <= target)
            assert hit == (reached[0] + 1 if len(reached) else INF)
        assert lengths.total[i, j] == len(values)


def test_expected_running_time_shares_the_cost_of_failures_among_successes():
    hits = np.array([[30.0, 40.0, INF], [INF, 60.0, INF], [10.0, 20.0, INF]])
    lengths = RunLengths(np.array([1.0, 2.0, 0.1]), hits, np.array([100, 90, 80]))
    np.testing.assert_allclose(expected_running_time(lengths), [130 / 2, 120 / 3, INF])
    # Axes between those of runs and targets, such as functions, stay.
    both = lengths._replace(hits=np.stack([hits, hits + 1], 1), total=np.full((3, 2), 90))
    np.testing.assert_allclose(
        expected_running_time(both), [[65, 40, INF], [(31 + 11 + 90) / 2, 41, INF]]
    )


def test_expected_running_time_of_restarted_trials_is_their_mean_cost():
    """Trials succeed with probability p after a cost, else end at another: Wald's identity."""
    p, success, failure, trials = 0.3, 50.0, 200.0, 20_000
    rng = np.random.default_rng(1)
    hits = np.where(rng.random((trials, 1)) < p, success, INF)
    lengths = RunLengths(np.array([1.0]), hits, np.full(trials, failure))
    expected = success + (1 - p) / p * failure
    deviation = failure * ((1 - p) / p**2 / (trials * p)) ** 0.5
    assert abs(expected_running_time(lengths)[0] - expected) < 4 * deviation


def test_the_bootstrap_covers_the_expected_running_time_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for repeat in range(200):
        hits = rng.exponential(100.0, (40, 1))
        lengths = RunLengths(np.array([1.0]), hits, np.full(40, 1e6))
        low, high = running_time_interval(lengths, 0.9, samples=200, seed=repeat)
        assert low[0] < expected_running_time(lengths)[0] < high[0]
        covered += low[0] <= 100 <= high[0]
    assert 165 <= covered <= 190  # 0.9 of 200, less the percentile method's known shortfall


def test_the_bootstrap_knows_that_it_might_never_succeed():
    hits = np.array([[10.0, 5.0, INF]] + [[INF, 6.0, INF]] * 9)
    low, high = running_time_interval(RunLengths(np.arange(3.0), hits, np.full(10, 100.0)))
    assert low[0] < INF and high[0] == INF  # (9/10)^10 = 0.35 of all draws have no success
    assert 5 <= low[1] <= high[1] <= 6
    assert low[2] == high[2] == INF
    single = RunLengths(np.zeros(1), np.full((4, 1), 7.0), np.full(4, 9.0))
    assert running_time_interval(single) == (7.0, 7.0)


def test_a_distribution_rises_at_every_run_length_to_the_share_that_succeeds():
    hits = np.array([[5.0, INF, 2.0], [5.0, 1.0, INF]])
    x, share = distribution(hits)
    np.testing.assert_array_equal(x, [1, 2, 5])
    np.testing.assert_allclose(share, [1 / 6, 2 / 6, 4 / 6])
    nothing = distribution([INF, INF])
    assert len(nothing.x) == len(nothing.share) == 0


ONE = RunLengths(np.zeros(1), np.ones((2, 1)), np.ones(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run_lengths([1.0, 2.0]), r"axes of rounds and members, got shape \(2,\)"),
        (lambda: run_lengths(np.ones((2, 2)), evaluated=[True]), r"shape \(2, 2\), got \(1,\)"),
        (lambda: expected_running_time(run_lengths(np.ones((2, 2)))), "needs several runs"),
        (lambda: running_time_interval(ONE, confidence=1.0), "between 0 and 1, got 1.0"),
        (lambda: running_time_interval(ONE, samples=0), "at least one sample, got 0"),
        (lambda: distribution([]), "run lengths that are numbers"),
        (lambda: distribution([np.nan]), "run lengths that are numbers"),
    ],
)
def test_refuses_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
