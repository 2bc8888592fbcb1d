"""The forgetting Gaussian process: against scikit-learn, scipy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metahpo.strategies import gp_bandit as gp

KERNEL = gp.Kernel(0.4, 0.3, 0.05)


def observations(count=12, empty=5, size=2, context=False):
    """Random data in float64, with empty slots between whose contents must not matter."""
    rng = np.random.default_rng(0)
    slots = count + empty
    mask = rng.permutation(slots) < count
    data = gp.Observations(
        rng.uniform(size=(slots, size)),
        rng.integers(0, 6, slots).astype(float),
        rng.normal(size=slots) * context,
        np.where(mask, rng.normal(size=slots), np.nan),
        mask,
    )
    return jax.tree.map(jnp.asarray, data), mask


def by_hand(data, mask):
    """The observations in use, and their covariance with noise, in numpy."""
    x, time, context = (np.asarray(a)[mask] for a in (data.x, data.time, data.context))
    squares = ((x[:, None] - x) ** 2).sum(-1)
    apart = np.abs(time[:, None] - time)
    k = np.exp(-squares / (2 * 0.4**2)) * (1 - 0.3) ** (apart / 2)
    full = k + gp.CONTEXT * np.outer(context, context) + 0.05 * np.eye(len(x))
    return x, time, np.asarray(data.reward)[mask], full


def test_covariance_of_one_point_decays_by_the_root_of_what_is_kept():
    x = jnp.full((4, 3), 0.2)
    cov = gp.covariance(KERNEL, x[:1], jnp.zeros(1), x, jnp.arange(4.0))[0]
    np.testing.assert_allclose(cov, 0.7 ** (np.arange(4) / 2), rtol=1e-6)
    never = gp.covariance(KERNEL._replace(forgetting=0.0), x[:1], jnp.zeros(1), x, jnp.arange(4.0))
    np.testing.assert_array_equal(never[0], 1.0)


def test_posterior_is_that_of_scikit_learn():
    process = pytest.importorskip("sklearn.gaussian_process")
    kernels = process.kernels
    with jax.enable_x64(True):
        data, mask = observations()
        new = jnp.asarray(np.random.default_rng(1).uniform(size=(7, 2)))
        mean, variance = jax.jit(gp.predict)(gp.posterior(KERNEL, data), new, 6.0)
    # (1 - w)^(t / 2) = exp(-t / s): Matern's kernel of order 1/2, blind to the points.
    kept = -2 / np.log(1 - 0.3)
    kernel = kernels.RBF([0.4, 0.4, 1e8]) * kernels.Matern([1e8, 1e8, kept], nu=0.5)
    oracle = process.GaussianProcessRegressor(kernel, alpha=0.05, optimizer=None)
    x, time, reward, _ = by_hand(data, mask)
    oracle.fit(np.column_stack([x, time]), reward)
    expected, spread = oracle.predict(np.column_stack([new, np.full(7, 6.0)]), return_std=True)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    np.testing.assert_allclose(variance, spread**2, rtol=1e-6)


def test_evidence_is_the_density_of_a_normal_distribution():
    with jax.enable_x64(True):
        data, mask = observations(context=True)
        found = jax.jit(gp.log_evidence)(KERNEL, data)
    reward, full = by_hand(data, mask)[2:]
    expected = stats.multivariate_normal.logpdf(reward, np.zeros(len(reward)), full)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_linear_dependence_on_the_context_is_told_from_the_points():
    rng = np.random.default_rng(2)
    x, context = rng.uniform(size=(40, 1)), rng.normal(size=40)
    reward = np.sin(3 * x[:, 0]) + 1.5 * context
    data = gp.Observations(x, np.zeros(40), context, reward, np.ones(40, bool))
    process = gp.posterior(gp.Kernel(0.3, 0.0, 1e-4), jax.tree.map(jnp.asarray, data))
    new = jnp.linspace(0.1, 0.9, 9)[:, None]
    mean, _ = jax.jit(gp.predict)(process, new, 0.0)
    np.testing.assert_allclose(mean, np.sin(3 * new[:, 0]), atol=0.05)


def test_a_hallucination_changes_variances_as_an_observation_would_and_no_mean():
    with jax.enable_x64(True):
        data, mask = observations(empty=5)
        order = np.argsort(~mask, kind="stable")  # the empty slots last
        data = jax.tree.map(lambda a: a[order], data)
        new = jnp.asarray(np.random.default_rng(3).uniform(size=(7, 2)))
        process = gp.posterior(KERNEL, data)
        first, second = jnp.array([0.3, 0.6]), jnp.array([0.8, 0.1])
        both = gp.hallucinate(gp.hallucinate(process, 12, first, 6.0), 13, second, 6.0)
        seen = data._replace(
            x=data.x.at[12:14].set(jnp.stack([first, second])),
            time=data.time.at[12:14].set(6.0),
            context=data.context.at[12:14].set(0.0),
            reward=data.reward.at[12:14].set(
                gp.predict(process, jnp.stack([first, second]), 6.0)[0]
            ),
            mask=data.mask.at[12:14].set(True),
        )
        before, after, expected = (
            gp.predict(p, new, 6.0) for p in (process, both, gp.posterior(KERNEL, seen))
        )
    np.testing.assert_allclose(after[0], before[0], rtol=1e-12)
    np.testing.assert_allclose(after[0], expected[0], rtol=1e-8)
    np.testing.assert_allclose(after[1], expected[1], rtol=1e-8)
    assert (after[1] < before[1]).all()


def test_the_kernel_of_the_highest_evidence_is_the_one_that_made_the_data():
    rng = np.random.default_rng(4)
    x, time = rng.uniform(size=(150, 1)), np.sort(rng.integers(0, 15, 150)).astype(float)
    kernels = gp.Kernel(
        jnp.array([0.3, 0.03, 0.3, 0.3]),
        jnp.array([0.2, 0.2, 0.0, 0.2]),
        jnp.array([0.05] * 3 + [1.0]),
    )
    truth = gp.Kernel(0.3, 0.2, 0.05)
    cov = gp.covariance(truth, *map(jnp.asarray, (x, time, x, time))) + 0.05 * np.eye(150)
    reward = np.linalg.cholesky(np.asarray(cov, float)) @ rng.normal(size=150)
    data = gp.Observations(x, time, np.zeros(150), reward, np.ones(150, bool))
    best, evidence = jax.jit(gp.best_kernel)(kernels, jax.tree.map(jnp.asarray, data))
    assert (evidence[0] > evidence[1:] + 3).all()
    np.testing.assert_allclose(best, truth, rtol=1e-6)
