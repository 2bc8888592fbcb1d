"""Sinusoid regression, and MAML on it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.run import fresh_losses

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def tasks():
    sample = mh.problems.sinusoid(shots=5, queries=100).sample
    return jax.jit(jax.vmap(sample))(jax.random.split(KEY, 4000))


def test_points_lie_on_one_sinusoid_with_the_papers_ranges(tasks):
    """A least-squares fit of ``a sin x + b cos x`` recovers amplitude and phase of every task."""
    x, y = (np.asarray(leaf[..., 0], float) for leaf in tasks.query)
    features = np.stack([np.sin(x), np.cos(x)], axis=-1)
    gram = np.einsum("tnf,tng->tfg", features, features)
    right = np.einsum("tnf,tn->tf", features, y)
    a, b = np.linalg.solve(gram, right[..., None])[..., 0].T
    for points in tasks:  # support and query share the sinusoid
        x, y = (np.asarray(leaf[..., 0], float) for leaf in points)
        fitted = a[:, None] * np.sin(x) + b[:, None] * np.cos(x)
        np.testing.assert_allclose(y, fitted, atol=1e-4)
        assert -5 <= x.min() < -4.99 and 4.99 < x.max() <= 5
    # A sin(x - phase) = A cos(phase) sin x - A sin(phase) cos x
    amplitude, phase = np.hypot(a, b), np.arctan2(-b, a)
    for value, low, high in ((amplitude, 0.1, 5.0), (phase, 0.0, np.pi)):
        assert value.min() > low - 1e-3 and value.max() < high + 1e-3
        uniform = (np.sort(value) - low) / (high - low)
        steps = (np.arange(4000) + 0.5) / 4000
        assert np.abs(uniform - steps).max() < 1.63 / np.sqrt(4000)  # Kolmogorov-Smirnov, 1 %
    assert abs(np.corrcoef(amplitude, phase)[0, 1]) < 4 / np.sqrt(4000)


def test_support_and_query_are_different_points(tasks):
    distance = np.abs(tasks.support.x - tasks.query.x[:, None, :, 0])
    assert np.mean(distance == 0) < 1e-4


def test_predicting_zero_has_its_known_error(tasks):
    error = np.mean(tasks.query.y**2, axis=(1, 2))
    assert abs(error.mean() - 4.2517) < 4 * error.std() / np.sqrt(4000)


def test_network_is_the_papers(tasks):
    family = mh.problems.sinusoid(shots=5)
    task = jax.tree.map(lambda leaf: leaf[0], tasks)
    params = family.init(KEY, task)
    layers = [params["params"][name] for name in ("Dense_0", "Dense_1", "head")]
    assert [layer["kernel"].shape for layer in layers] == [(1, 40), (40, 40), (40, 1)]
    for split, points in (("support", task.support), ("query", task.query)):
        x = np.asarray(points.x)
        for i, layer in enumerate(layers):
            x = x @ layer["kernel"] + layer["bias"]
            x = np.maximum(x, 0) if i < 2 else x
        expected = np.mean((x - points.y) ** 2)
        np.testing.assert_allclose(family.loss(params, task, split), expected, rtol=1e-5)


def test_descriptor_is_the_supports_statistics(tasks):
    task = jax.tree.map(lambda leaf: leaf[0], tasks)
    x, y = np.asarray(task.support)
    expected = [y.mean(), np.sqrt((y**2).mean()), np.abs(y).max(), (x * y).mean()]
    result = mh.problems.sinusoid(shots=5).describe(task)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_double_precision_stays_double():
    with jax.enable_x64(True):
        family = mh.problems.sinusoid(shots=5)
        task = family.sample(KEY)
        params = family.init(KEY, task)
        assert {leaf.dtype.name for leaf in jax.tree.leaves((task, params))} == {"float64"}


@pytest.mark.parametrize("name", ["shots", "queries", "a width of hidden"])
def test_refuses_sizes_below_one(name):
    sizes = {"shots": 5, "queries": 5, "hidden": (40, 40)}
    sizes |= {"hidden": (40, 0)} if name == "a width of hidden" else {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        mh.problems.sinusoid(**sizes)


# Finn et al. 2017 with inner rate 0.01: 25 tasks a round, 10 query points, Adam 1e-3.  Measured
# after 10,000 of the paper's 70,000 rounds, four seeds: 0.71, 0.74, 0.71, 0.72 (the paper's
# network after 5,000 rounds: 0.87 to 0.93, after 20,000: 0.58 to 0.66).
@pytest.mark.slow
@pytest.mark.optimised
def test_maml_learns_to_adapt_in_one_step():
    train_family = mh.problems.sinusoid(shots=5, queries=10)
    problem = mh.meta.maml(train_family, learning_rate=0.01)
    test_problem = mh.meta.maml(mh.problems.sinusoid(shots=5, queries=100), learning_rate=0.01)

    @jax.jit
    def learn_and_judge(key):
        init_key, train_key, test_key = jax.random.split(key, 3)
        result = mh.meta_train(
            train_key,
            problem,
            mh.hypergrad.reverse(problem, steps=1),
            mh.meta.initial_params(init_key, train_family),
            optax.chain(optax.clip_by_global_norm(10.0), optax.adam(1e-3)),
            rounds=10_000,
            tasks=25,
        )
        losses = [
            fresh_losses(test_key, test_problem, result.hparams, steps=steps, tasks=1000)
            for steps in (0, 1)
        ]
        return jnp.stack(losses), result.skipped

    (before, after), skipped = learn_and_judge(KEY)
    assert skipped == 0
    # Before its step MAML cannot beat the best predictor that does not adapt, 3.0057 on average.
    assert abs(before.mean() - 3.0057) < 4 * before.std() / np.sqrt(1000)
    assert after.mean() <= 1.0
