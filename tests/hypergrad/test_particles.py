"""Persistent pairs: what is estimated in every window, and what the pairs carry along.

``pes`` and ``nres`` differ in one rule alone, so what does not touch it is tested on one of them.
"""

import itertools

import chex
import closed_forms as forms
import episodes
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.hypergrad.nres import nres
from metahpo.hypergrad.pes import pes

KEY = jax.random.key(0)
THETA = {"theta": 0.5}
BOTH = pytest.mark.parametrize("make", [pes, nres])


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def windows(steps, window):
    return -(-steps // window)


def exact(problem, steps, window, losses="window", theta=0.5):
    """The derivative of every window's loss by a theta that is the same in all windows."""
    return forms.window_influences(problem, steps, window, losses, theta).sum(axis=1)


def assert_within_four_errors(estimate, expected, at_most):
    """Each window's gradient by the estimate's own error, which must be small to mean anything."""
    grad, error = estimate.grad["theta"], estimate.info["standard_error"]["theta"]
    assert np.all(np.abs(grad - expected) < 4 * error), (grad, expected, error)
    assert np.all(error < at_most)
    assert np.all(estimate.info["finite"])


EPISODES = [(7, 3, "step"), (8, 3, "step"), (9, 3, "step"), (9, 5, "window")]


@BOTH
@pytest.mark.parametrize(("steps", "window", "losses"), EPISODES)
def test_every_length_of_the_last_window_has_the_exact_derivative(make, steps, window, losses):
    """A last loss that is credited to the last window's noise alone would be far off."""
    estimator = make(forms.accumulation(), steps, window, pairs=4000, sigma=0.1, losses=losses)
    count = windows(steps, window)
    result = jax.jit(lambda: episodes.estimates(estimator, KEY, THETA, count))()
    expected = exact(forms.accumulation(), steps, window, losses)
    if losses == "step":
        assert expected.sum() == -steps * (steps + 1) / 2
    assert_within_four_errors(result, expected, at_most=0.05 * np.abs(expected))
    ends = np.minimum(np.arange(1, count + 1) * window, steps)
    np.testing.assert_array_equal(result.info["progress"], np.tile(ends[:, None], 4000))


def test_the_initial_state_is_part_of_the_first_window():
    """``w_t = (1 - a lr)^t start`` for both hyperparameters, with whole numbers beside them."""
    problem, task = forms.scalar_dynamics(), jnp.array(1.1)
    estimator = nres(problem, 7, 3, pairs=4000, sigma=1e-4)
    result = jax.jit(lambda h: episodes.estimates(estimator, KEY, h, 3, task))(
        forms.scalar_hparams(0.4)
    )
    by_rate, by_start = np.transpose([forms.scalar_exact(0.4, 1.3, 1.1, t) for t in (3, 6, 7)])
    error = result.info["standard_error"]
    assert np.all(np.abs(result.grad["lr"] - by_rate) < 4 * error["lr"])
    assert np.all(np.abs(result.grad["start"] - by_start) < 4 * error["start"])
    assert np.all(error["lr"] < 0.1 * np.abs(by_rate).max())
    assert np.all(result.grad["power"] == 0)


def test_standard_error_is_the_spread_of_repeated_estimates():
    estimator = pes(forms.influence_balancing(), 25, 10, pairs=32, sigma=0.1)
    run = jax.vmap(lambda key: episodes.estimates(estimator, key, THETA, 3))
    assert_calibrated(jax.jit(run)(jax.random.split(KEY, 2000)))


def assert_calibrated(result):
    spread = result.grad["theta"].std(axis=0, ddof=1)
    told = np.sqrt((result.info["standard_error"]["theta"] ** 2).mean(axis=0))
    np.testing.assert_allclose(told, spread, rtol=0.1)


@pytest.mark.parametrize(("make", "stagger"), [(pes, "even"), (nres, "random")])
def test_staggered_pairs_see_the_mean_over_all_windows_at_once(make, stagger):
    problem, steps, window = forms.accumulation(), 11, 4
    estimator = make(problem, steps, window, pairs=30, sigma=0.1, stagger=stagger)
    run = jax.vmap(lambda key: episodes.estimates(estimator, key, THETA, 3))
    result = jax.jit(run)(jax.random.split(KEY, 1000))
    mean, error = result.grad["theta"].mean(axis=0), result.grad["theta"].std(axis=0) / 1000**0.5
    assert np.all(np.abs(mean - exact(problem, steps, window).mean()) < 4 * error)
    assert np.all(error < 0.1)
    places = [(result.info["progress"] == end).mean(axis=2) for end in (4, 8, 11)]
    if stagger == "even":
        assert np.all(np.array(places) == 1 / 3)
    else:
        assert np.all(np.std(places, axis=1) > 0.05)
        np.testing.assert_allclose(np.mean(places, axis=1), 1 / 3, atol=0.02)
        assert_calibrated(result)
        # A full episode sees every window of every pair, wherever it began.
        np.testing.assert_allclose(np.sum(result.info["progress"], axis=1), 4 + 8 + 11)


def test_windows_and_episodes_may_differ_between_pairs():
    problem, each = forms.accumulation(), 1000
    lengths = [(5, 2), (7, 4), (4, 9)]
    steps, window = (np.repeat(x, each) for x in zip(*lengths, strict=True))
    estimator = pes(problem, steps, window, pairs=3 * each, sigma=0.1, losses="step")
    result = jax.jit(lambda: episodes.estimates(estimator, KEY, THETA, 7))()
    cycles = [itertools.cycle(exact(problem, t, min(k, t), "step")) for t, k in lengths]
    expected = np.array([np.mean([next(cycle) for cycle in cycles]) for _ in range(7)])
    assert_within_four_errors(result, expected, at_most=0.5)
    assert len(set(np.round(expected, 9))) > 3  # the pairs' windows ended at different times
    ends = itertools.islice(itertools.cycle([2, 4, 5]), 7)
    np.testing.assert_array_equal(result.info["progress"][:, 0], list(ends))


def noisy():
    """A training whose start, steps and loss are random, with the task as its mean."""
    return forms.accumulation()._replace(
        init=lambda key, h, task: task + jax.random.uniform(key),
        step=lambda key, h, task, s: 0.9 * s + h["theta"] * task + jax.random.uniform(key),
        loss=lambda key, h, task, s: s**2 + 1e3 * jax.random.uniform(key),
    )


def test_the_windows_of_an_episode_are_one_training_with_its_keys():
    problem, task = noisy(), jnp.array(1.5)
    estimator = pes(problem, 7, 3, pairs=2, sigma=1e-13)

    def body(memory, key):
        return estimator.estimate(key, THETA, task, memory)[1], None

    @jax.jit
    def run():
        memory = estimator.init(KEY, THETA, task)
        memory, _ = jax.lax.scan(body, memory, jax.random.split(KEY, 3))

        def whole(keys):
            begun = mh.inner.Training(keys, task, problem.init(keys.init, THETA, task), 0)
            return mh.inner.advance(problem, 7)(THETA, begun).state

        return memory.trainings.state, jax.vmap(whole)(memory.trainings.keys)

    states, whole = run()
    np.testing.assert_allclose(states, np.stack([whole, whole], axis=1), rtol=1e-9)
    assert abs(whole[0] - whole[1]) > 0.01  # pairs train apart


def test_a_pair_trains_with_the_same_keys_so_additive_noise_cancels():
    problem = forms.accumulation()._replace(
        loss=lambda key, h, task, s: s + 1e9 * jax.random.uniform(key)
    )
    estimator = nres(problem, 7, 3, pairs=400, sigma=0.1)
    result = jax.jit(lambda: episodes.estimates(estimator, KEY, THETA, 3))()
    assert np.all(result.loss > 1e8)
    expected = exact(forms.accumulation(), 7, 3)
    assert_within_four_errors(result, expected, at_most=0.1 * np.abs(expected))


def test_an_episode_stays_with_its_task():
    """Losses are the task; those passed in are 0, 1, 2 and 3, in episodes of two windows."""
    problem = forms.accumulation()._replace(loss=lambda key, h, task, s: task + 0.0 * s)
    estimator = pes(problem, 4, 2, pairs=3, sigma=0.1)

    def body(memory, x):
        estimate, memory = estimator.estimate(*x, memory)
        return memory, estimate.loss

    def run():
        memory = estimator.init(KEY, THETA, jnp.array(9.0))
        hparams = {"theta": jnp.full(4, 0.5)}
        return jax.lax.scan(body, memory, (jax.random.split(KEY, 4), hparams, jnp.arange(4.0)))[1]

    assert jax.jit(run)().tolist() == [0, 0, 2, 2]


def test_a_pair_that_diverges_is_counted_and_begins_anew():
    """Perturbations above 0.1 diverge: one training of some pairs."""
    problem = forms.accumulation()._replace(
        step=lambda key, h, task, s: jnp.where(h["theta"] > 0.6, jnp.nan, s - h["theta"])
    )
    estimator = nres(problem, 8, 2, pairs=2, sigma=0.1)
    memory, finite = jax.jit(estimator.init)(KEY, THETA, None), []
    run = jax.jit(estimator.estimate)
    for key in jax.random.split(KEY, 40):
        before = np.asarray(memory.trainings.steps) % 8
        estimate, memory = run(key, THETA, None, memory)
        lost = np.isnan(memory.trainings.state).any(axis=1)
        assert estimate.info["diverged"] == lost.sum()
        assert estimate.info["finite"] == (not lost.any()) == np.isfinite(estimate.grad["theta"])
        np.testing.assert_array_equal(estimate.info["progress"], before + 2)
        np.testing.assert_array_equal(memory.trainings.steps, np.where(lost, 8, before + 2))
        finite.append(bool(estimate.info["finite"]))
    # Good estimates come again after bad ones: nothing stays spoilt.
    assert sum(bad < good for bad, good in itertools.pairwise(finite)) >= 2


def test_vmap_over_hyperparameters_and_tasks_changes_nothing():
    estimator = nres(forms.scalar_dynamics(), 5, 2, pairs=3, sigma=0.1)

    def one(key, lr, task):
        return episodes.estimates(estimator, key, forms.scalar_hparams(lr), 4, task)

    batch = jax.random.split(KEY, 2), jnp.array([0.3, 0.7]), jnp.array([0.1, 0.2])
    mapped, compiled = jax.jit(jax.vmap(one))(*batch), jax.jit(one)
    for i in range(2):
        entry = jax.tree.map(lambda x, i=i: x[i], mapped)
        chex.assert_trees_all_close(entry, compiled(*(x[i] for x in batch)), rtol=1e-9)


def test_later_windows_compile_nothing():
    traces = []
    problem = forms.accumulation()

    def step(*args):
        traces.append(1)
        return problem.step(*args)

    # A weakly typed initial state, which the first step makes a strong one.
    weak = problem._replace(step=step, init=lambda key, h, task: 0.0)
    estimator = pes(weak, 5, 2, pairs=2, sigma=0.1)
    run, hparams = jax.jit(estimator.estimate), {"theta": jnp.array(0.5)}
    memory = jax.jit(estimator.init)(KEY, hparams, None)
    counts = []
    for number in range(4):
        hparams = {"theta": jnp.array(0.5 + number)}
        _, memory = run(jax.random.key(number), hparams, None, memory)
        counts.append(len(traces))
    assert counts[0] == counts[-1] > 0


def test_meta_train_follows_it_over_many_tasks_and_windows():
    """``E (theta - task)^2`` over tasks around 2, in windows that no task survives."""
    problem = forms.accumulation()._replace(
        sample=lambda key: 2.0 + 0.1 * jax.random.normal(key),
        step=lambda key, h, task, s: s + (h["theta"] - s) / 2,
        loss=lambda key, h, task, s: (s - task) ** 2,
    )
    estimator = nres(problem, 12, 4, pairs=8, sigma=0.1, stagger="even")
    result = jax.jit(
        lambda key: mh.meta_train(
            key, problem, estimator, {"theta": jnp.array(0.0)}, optax.sgd(0.1), rounds=300, tasks=4
        )
    )(KEY)
    assert result.skipped == 0
    # The windows end at (1 - 2^-4), (1 - 2^-8), (1 - 2^-12) of theta: the best is 2.04.
    reach = 1 - 0.5 ** np.array([4, 8, 12])
    best = 2 * reach.sum() / (reach**2).sum()
    np.testing.assert_allclose(result.hparams["theta"], best, atol=0.05)


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window must be a whole number of at least 1, got 0"),
        ({"window": 1.5}, "window must be a whole number of at least 1, got 1.5"),
        ({"steps": -1}, "steps must be a whole number of at least 0, got -1"),
        ({"steps": [3, -2, 1]}, "steps must be a whole number of at least 0, got -2"),
        ({"window": [1, 2]}, r"one for each of the 3 pairs, got shape \(2,\)"),
        ({"steps": np.ones((3, 1))}, r"one for each of the 3 pairs, got shape \(3, 1\)"),
        ({"pairs": 0}, "pairs must be a whole number of at least 1, got 0"),
        ({"sigma": 0.0}, "sigma must be positive, got 0.0"),
        ({"sigma": float("nan")}, "sigma must be positive, got nan"),
        ({"losses": "last"}, "losses must be one of .*, got 'last'"),
        ({"stagger": True}, "stagger must be one of .*, got True"),
        ({"steps": 0, "losses": "step"}, "losses='step' needs steps of at least 1, got 0"),
    ],
)
def test_refuses_bad_arguments_with_rule_and_value(make, arguments, message):
    good = {"steps": 4, "window": 2, "pairs": 3, "sigma": 0.1}
    with pytest.raises(ValueError, match=message):
        make(forms.accumulation(), **(good | arguments))
