"""Gaussian processes and their kernels: against scikit-learn, scipy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import stats

from metahpo.surrogates import gaussian_process as gp
from metahpo.surrogates import kernels

SLOPE = 4.0
# Two coordinates, a time and a context: PB2's kernel.
KERNEL = kernels.total(
    kernels.exponential(kernels.squared((0, 1)), kernels.forgetting(2)), kernels.linear(3, SLOPE)
)
NUMBERS = gp.Numbers(((0.4, 0.3), ()), 0.05)


def observations(count=12, empty=5, context=False):
    """Random data in float64, with empty slots between whose contents must not matter."""
    rng = np.random.default_rng(0)
    slots = count + empty
    mask = rng.permutation(slots) < count
    columns = (
        rng.uniform(size=(slots, 2)),
        rng.integers(0, 6, slots).astype(float),
        rng.normal(size=slots) * context,
    )
    data = gp.Observations(
        np.column_stack(columns), np.where(mask, rng.normal(size=slots), np.nan), mask
    )
    return jax.tree.map(jnp.asarray, data), mask


def at(points, time, context=0.0):
    """Rows of all columns."""
    told = jnp.broadcast_to(jnp.array([time, context]), (len(points), 2))
    return jnp.concatenate([points, told], axis=1)


def by_hand(data, mask):
    """The observations in use, and their covariance with noise, in numpy."""
    rows = np.asarray(data.x)[mask]
    x, time, context = rows[:, :2], rows[:, 2], rows[:, 3]
    squares = ((x[:, None] - x) ** 2).sum(-1)
    apart = np.abs(time[:, None] - time)
    k = np.exp(-squares / (2 * 0.4**2)) * (1 - 0.3) ** (apart / 2)
    full = k + SLOPE * np.outer(context, context) + 0.05 * np.eye(len(x))
    return rows[:, :3], np.asarray(data.y)[mask], full


def test_covariance_of_one_point_decays_by_the_root_of_what_is_kept():
    kernel = kernels.exponential(kernels.squared((0, 1, 2)), kernels.forgetting(3))
    rows = jnp.concatenate([jnp.full((4, 3), 0.2), jnp.arange(4.0)[:, None]], axis=1)
    cov = kernel.covariance((0.4, 0.3), rows[:1], rows)[0]
    np.testing.assert_allclose(cov, 0.7 ** (np.arange(4) / 2), rtol=1e-6)
    never = kernel.covariance((0.4, 0.0), rows[:1], rows)
    np.testing.assert_array_equal(never[0], 1.0)


def test_the_variance_of_a_kernel_is_the_diagonal_of_its_covariance():
    with jax.enable_x64(True):
        rows = observations(context=True)[0].x
        full = KERNEL.covariance(NUMBERS.kernel, rows, rows)
        found = KERNEL.variance(NUMBERS.kernel, rows)
    np.testing.assert_allclose(found, np.diagonal(full), rtol=1e-14)


def test_posterior_is_that_of_scikit_learn():
    process = pytest.importorskip("sklearn.gaussian_process")
    with jax.enable_x64(True):
        data, mask = observations()
        new = jnp.asarray(np.random.default_rng(1).uniform(size=(7, 2)))
        seen = gp.posterior(KERNEL, NUMBERS, data)
        mean, variance = jax.jit(lambda p, x: gp.predict(KERNEL, p, x))(seen, at(new, 6.0))
    # (1 - w)^(t / 2) = exp(-t / s): Matern's kernel of order 1/2, blind to the points.
    kept = -2 / np.log(1 - 0.3)
    oracle = process.kernels
    kernel = oracle.RBF([0.4, 0.4, 1e8]) * oracle.Matern([1e8, 1e8, kept], nu=0.5)
    oracle = process.GaussianProcessRegressor(kernel, alpha=0.05, optimizer=None)
    rows, y, _ = by_hand(data, mask)
    oracle.fit(rows, y)
    expected, spread = oracle.predict(np.column_stack([new, np.full(7, 6.0)]), return_std=True)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    np.testing.assert_allclose(variance, spread**2, rtol=1e-6)


def test_evidence_is_the_density_of_a_normal_distribution():
    with jax.enable_x64(True):
        data, mask = observations(context=True)
        found = jax.jit(lambda data: gp.log_evidence(KERNEL, NUMBERS, data))(data)
    _, y, full = by_hand(data, mask)
    expected = stats.multivariate_normal.logpdf(y, np.zeros(len(y)), full)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_capacity_changes_nothing():
    with jax.enable_x64(True):
        data, _ = observations(context=True)
        larger = gp.extended(data, 9)
        new = at(jnp.asarray(np.random.default_rng(5).uniform(size=(7, 2))), 6.0, 0.5)
        small, large = (
            gp.predict(KERNEL, gp.posterior(KERNEL, NUMBERS, d), new) for d in (data, larger)
        )
        evidence = [gp.log_evidence(KERNEL, NUMBERS, d) for d in (data, larger)]
    np.testing.assert_allclose(large, small, rtol=1e-12)
    np.testing.assert_allclose(*evidence, rtol=1e-12)


def test_a_linear_dependence_on_the_context_is_told_from_the_points():
    rng = np.random.default_rng(2)
    x, context = rng.uniform(size=(40, 2)), rng.normal(size=40)
    y = np.sin(3 * x[:, 0]) + 1.5 * context
    rows = np.column_stack([x, np.zeros(40), context])
    data = jax.tree.map(jnp.asarray, gp.Observations(rows, y, np.ones(40, bool)))
    process = gp.posterior(KERNEL, gp.Numbers(((0.5, 0.0), ()), 1e-4), data)
    new = jnp.linspace(0.1, 0.9, 9)[:, None] * jnp.ones(2)
    mean, _ = jax.jit(lambda x: gp.predict(KERNEL, process, x))(at(new, 0.0))
    np.testing.assert_allclose(mean, np.sin(3 * new[:, 0]), atol=0.05)


def test_imagining_changes_variances_as_an_observation_would_and_no_mean():
    with jax.enable_x64(True):
        data, mask = observations(empty=5, context=True)
        order = np.argsort(~mask, kind="stable")  # the empty slots last
        data = jax.tree.map(lambda a: a[order], data)
        new = at(jnp.asarray(np.random.default_rng(3).uniform(size=(7, 2))), 6.0, 0.3)
        process = gp.posterior(KERNEL, NUMBERS, data)
        pending = at(jnp.array([[0.3, 0.6], [0.8, 0.1]]), 6.0, -0.2)
        both = gp.imagined(KERNEL, process, 12, pending[0])
        both = gp.imagined(KERNEL, both, 13, pending[1])
        seen = data._replace(
            x=data.x.at[12:14].set(pending),
            y=data.y.at[12:14].set(gp.predict(KERNEL, process, pending)[0]),
            mask=data.mask.at[12:14].set(True),
        )
        before, after, expected = (
            gp.predict(KERNEL, p, new) for p in (process, both, gp.posterior(KERNEL, NUMBERS, seen))
        )
    np.testing.assert_allclose(after[0], before[0], rtol=1e-12)
    np.testing.assert_allclose(after[0], expected[0], rtol=1e-8)
    np.testing.assert_allclose(after[1], expected[1], rtol=1e-8)
    assert (after[1] < before[1]).all()


def test_the_numbers_of_the_highest_evidence_are_those_that_made_the_data():
    kernel = kernels.exponential(kernels.squared([0]), kernels.forgetting(1))
    rng = np.random.default_rng(4)
    rows = np.column_stack([rng.uniform(size=150), np.sort(rng.integers(0, 15, 150))])
    lengths, rates = jnp.array([0.3, 0.03, 0.3, 0.3]), jnp.array([0.2, 0.2, 0.0, 0.2])
    candidates = gp.Numbers((lengths, rates), jnp.array([0.05] * 3 + [1.0]))
    cov = kernel.covariance((0.3, 0.2), jnp.asarray(rows), jnp.asarray(rows)) + 0.05 * np.eye(150)
    y = np.linalg.cholesky(np.asarray(cov, float)) @ rng.normal(size=150)
    data = jax.tree.map(jnp.asarray, gp.Observations(rows, y, np.ones(150, bool)))
    best, evidence = jax.jit(lambda c, d: gp.best_numbers(kernel, c, d))(candidates, data)
    assert (evidence[0] > evidence[1:] + 3).all()
    np.testing.assert_allclose(jax.tree.leaves(best), [0.3, 0.2, 0.05], rtol=1e-6)


def test_lanes_are_factored_one_after_the_other():
    # Several batches at once, each shared out in one pool of threads, wait for ever (JAX < 0.11.2).
    matrices = jnp.eye(4) * jnp.arange(1.0, 4.0)[:, None, None]
    program = jax.jit(jax.vmap(gp.inverse_root))
    calls = [line for line in program.lower(matrices).as_text().splitlines() if "potrf" in line]
    assert calls and all("4x4xf" in line and "3x4x4xf" not in line for line in calls)
    expected = np.linalg.inv(np.linalg.cholesky(matrices))
    np.testing.assert_allclose(program(matrices), expected, rtol=1e-6)


@pytest.mark.slow
def test_derivatives_of_the_inverse_root_are_differences():
    a = np.random.default_rng(1).normal(size=(4, 4))
    with jax.enable_x64(True):

        def root(x):
            return jax.vmap(lambda scale: gp.inverse_root(scale * (x + x.T)))(jnp.array([1.0, 3.0]))

        check_grads(root, (jnp.asarray(a @ a.T + np.eye(4)),), order=2)
