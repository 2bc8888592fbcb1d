"""Repeated trainings are independent, their mean and median are theirs, failures count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.base import Problem
from metahpo.problems import averaged

SPACE = {"x": mh.Float(0.5, 1.5)}
H = {"x": jnp.array(0.9)}
KEY = jax.random.key(3)
STEPS = 4


def noisy():
    """A random walk that shrinks towards the task, judged with noise."""
    return Problem(
        sample=jax.random.normal,
        init=lambda key, h, task: jax.random.normal(key),
        step=lambda key, h, task, s: task + h["x"] * (s - task) + 0.1 * jax.random.normal(key),
        loss=lambda key, h, task, s: s**2 + 0.1 * jax.random.normal(key),
        describe=lambda task: jnp.array([task]),
    )


def losses_by_hand(problem, repeats, key=KEY, task=1.0):
    """Each repeat trained by itself with the keys that are its own."""
    keys = mh.inner.keys(key)
    found = []
    for i in range(repeats):

        def of(key, i=i):
            return jax.random.split(key, repeats)[i]

        state = problem.init(of(keys.init), H, task)
        for t in range(STEPS):
            state = problem.step(of(jax.random.fold_in(keys.steps, t)), H, task, state)
        found.append(problem.loss(of(keys.loss), H, task, state))
    return np.array(found)


def loss_of(problem, key=KEY, task=1.0):
    return mh.inner.outer_loss(problem, STEPS)(key, H, task)[0]


@pytest.mark.parametrize(("statistic", "central"), [("mean", np.mean), ("median", np.median)])
def test_the_loss_is_the_statistic_of_independent_trainings(statistic, central):
    by_hand = losses_by_hand(noisy(), 5)
    assert len(np.unique(by_hand)) == 5
    found = loss_of(averaged(noisy(), 5, statistic=statistic))
    np.testing.assert_allclose(found, central(by_hand), rtol=1e-5)


def test_only_the_loss_may_be_repeated():
    problem = averaged(noisy(), 6, over="losses")
    state = mh.inner.unroll(problem, STEPS)(KEY, H, 1.0)
    np.testing.assert_array_equal(state, mh.inner.unroll(noisy(), STEPS)(KEY, H, 1.0))
    keys = jax.random.split(mh.inner.keys(KEY).loss, 6)
    each = [noisy().loss(key, H, 1.0, state) for key in keys]
    np.testing.assert_allclose(loss_of(problem), np.mean(each), rtol=1e-5)


def test_the_variance_falls_with_the_number_of_repeats():
    keys = jax.random.split(jax.random.key(0), 4000)
    spread = [
        np.var(jax.jit(jax.vmap(lambda key, p=problem: loss_of(p, key)))(keys))
        for problem in (noisy(), averaged(noisy(), 8))
    ]
    # A ratio of two sample variances of 4000 has a standard error of some 5 % here.
    np.testing.assert_allclose(spread[0] / spread[1], 8, rtol=0.25)


def failing(share):
    """Repeats whose uniform number is below ``share`` diverge."""
    return mh.problems.function(lambda h: h["x"])._replace(
        loss=lambda key, h, task, state: jnp.where(
            jax.random.uniform(key) < share, jnp.nan, 1.0 + jax.random.uniform(key)
        )
    )


def test_one_failure_is_one_too_many_for_a_mean_and_few_are_not_for_a_median():
    keys = jax.random.split(KEY, 200)
    draws = jax.vmap(lambda key: jax.vmap(jax.random.uniform)(jax.random.split(key, 5)))(keys)
    failures = np.asarray((draws < 0.3).sum(axis=1))
    assert {0, 1, 2, 3} <= set(failures.tolist())

    def losses(statistic):
        problem = averaged(failing(0.3), 5, statistic=statistic)
        return jax.vmap(lambda key: problem.loss(key, H, None, jnp.zeros(5)))(keys)

    np.testing.assert_array_equal(np.isfinite(losses("mean")), failures == 0)
    np.testing.assert_array_equal(np.isfinite(losses("median")), failures <= 2)
    ranked = np.sort(np.where(draws < 0.3, np.inf, 1 + draws), axis=1)
    np.testing.assert_allclose(losses("median"), ranked[:, 2], rtol=1e-6)


def test_a_search_counts_members_of_which_a_repeat_failed():
    strategy = mh.strategies.random(SPACE, 20)
    problem = averaged(failing(0.3), 3)
    result = mh.search(KEY, problem, SPACE, strategy, rounds=5, steps=1)
    # 1 - 0.7^3 = 0.657 of the members fail: 65.7 of 100, standard deviation 4.7.
    assert 46 < int(result.nonfinite) < 85
    assert 1 <= result.best_loss < 2


def test_the_hypergradient_is_the_mean_of_the_repeats_hypergradients():
    problem, step = averaged(noisy(), 3), 1e-5
    estimator = mh.hypergrad.reverse(problem, STEPS)

    def at(x):
        return mh.inner.outer_loss(problem, STEPS)(KEY, {"x": jnp.array(x)}, 1.0)[0]

    with jax.enable_x64(True):
        estimate, _ = estimator.estimate(KEY, {"x": jnp.array(0.9)}, 1.0, ())
        slope = (at(0.9 + step) - at(0.9 - step)) / (2 * step)
    np.testing.assert_allclose(estimate.grad["x"], slope, rtol=1e-6)


def test_population_based_training_goes_on_from_all_repeats():
    problem = averaged(noisy(), 2)
    strategy = mh.strategies.pbt(SPACE, 4)
    result = mh.search(KEY, problem, SPACE, strategy, rounds=3, steps=2, task=jnp.array(1.0))
    assert result.best_state.shape == (2,)
    assert np.isfinite(result.history.loss).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats must be a whole number of at least 1, got 0"),
        ({"repeats": 1.5}, "repeats .* got 1.5"),
        ({"repeats": 2, "over": "tasks"}, "over must be 'trainings' or 'losses', got 'tasks'"),
        ({"repeats": 2, "statistic": "min"}, r"one of \('mean', 'median'\), got 'min'"),
    ],
)
def test_wrong_arguments_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        averaged(noisy(), **options)
