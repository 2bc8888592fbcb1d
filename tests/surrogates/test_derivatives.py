"""Derivatives as observations: the differentiated kernel, and a dense process in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.surrogates import derivatives, kernels
from metahpo.surrogates import gaussian_process as gp
from metahpo.surrogates.gaussian_process import Numbers, Observations

LENGTHS = np.array([0.3, 0.7, 1.9])
FLOATS = np.array([0, 2])  # by the column between nothing is differentiated
KERNEL = derivatives.matern52(range(3))
PLAIN = kernels.matern52(range(3))
ERRORS, NOISE = np.array([0.02, 0.005]), 1e-3
NUMBERS = Numbers(LENGTHS, np.array([*ERRORS, *ERRORS, *ERRORS, NOISE]))


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def points(count, seed=0):
    return np.random.default_rng(seed).uniform(size=(count, 3))


def rows(x):
    """The derivatives by the first and the last column, and the values, at the same points."""
    x = jnp.asarray(x)
    nothing = jnp.zeros((len(x), 2))
    slopes = derivatives.observations(x, nothing, nothing == 0, FLOATS)
    return jnp.concatenate([slopes.x, derivatives.values(x)])


@pytest.mark.slow
def test_covariances_are_those_of_the_differentiated_kernel():
    x, y = points(3, 3), points(2, 4)
    y[0] = x[0]  # and where points are equal

    def k(a, b):
        return PLAIN.covariance(jnp.asarray(LENGTHS), a[None], b[None])[0, 0]

    functions = jax.grad(k, 0), jax.grad(k, 1), jax.jacfwd(jax.grad(k, 0), 1), k
    pairs = [jax.vmap(lambda a, f=f: jax.vmap(lambda b: f(a, b))(y))(x) for f in functions]
    by_x, by_y, by_both, value = (np.asarray(pair) for pair in pairs)
    found = np.asarray(KERNEL.covariance(jnp.asarray(LENGTHS), rows(x), rows(y)))
    both = by_both[..., FLOATS, :][..., FLOATS].transpose(0, 2, 1, 3).reshape(6, 4)
    np.testing.assert_allclose(found[:6, :4], both, rtol=1e-10, atol=1e-12)
    slopes = by_x[..., FLOATS].transpose(0, 2, 1).reshape(6, 2)
    np.testing.assert_allclose(found[:6, 4:], slopes, rtol=1e-10)
    np.testing.assert_allclose(found[6:, :4], by_y[..., FLOATS].reshape(3, 4), rtol=1e-10)
    np.testing.assert_allclose(found[6:, 4:], value, rtol=1e-12)


def test_the_variance_is_the_diagonal_and_the_covariance_positive_definite():
    x = rows(np.concatenate([points(6), points(2)]))
    full = np.asarray(KERNEL.covariance(jnp.asarray(LENGTHS), x, x))
    np.testing.assert_allclose(KERNEL.variance(jnp.asarray(LENGTHS), x), np.diagonal(full))
    assert np.linalg.eigvalsh(full).min() > -1e-10


def observed(count=3, capacity=3, slots=8):
    """Values at ``slots`` points, of which 5 are there; slopes at ``capacity`` of them."""
    x = points(slots, 7)
    slopes = np.random.default_rng(8).normal(size=(capacity, 2))
    there = np.arange(capacity)[:, None] < np.full((1, 2), count)
    there[1, 1] = False
    columns = jnp.asarray(x[:capacity]), jnp.where(there, slopes, jnp.nan), jnp.asarray(there)
    y = np.where(np.arange(slots) < 5, np.sin(4 * x).sum(1), np.nan)
    data = Observations(derivatives.values(x), jnp.asarray(y), jnp.arange(slots) < 5)
    return derivatives.joined(derivatives.observations(*columns, FLOATS), data)


def by_hand(data, new):
    """Means and variances in numpy, entry by entry (Rasmussen & Williams 2006, chapter 9.4)."""

    def covariance(a, b):
        (x, i), (y, j) = (a[:3], int(a[3])), (b[:3], int(b[3]))
        u = (x - y) / LENGTHS
        t = np.sqrt(5 * u @ u)
        if i < 0 and j < 0:
            return (1 + t + t**2 / 3) * np.exp(-t)
        if i < 0 or j < 0:
            d = max(i, j)
            sign = 1 if i < 0 else -1
            return sign * 5 / 3 * (1 + t) * np.exp(-t) * u[d] / LENGTHS[d]
        same = (1 + t) * (i == j) - 5 * u[i] * u[j]
        return 5 / 3 * np.exp(-t) * same / (LENGTHS[i] * LENGTHS[j])

    used = np.asarray(data.mask)
    x, y = np.asarray(data.x)[used], np.asarray(data.y)[used]
    noise = [NOISE if row[3] < 0 else ERRORS[list(FLOATS).index(row[3])] for row in x]
    full = np.array([[covariance(a, b) for b in x] for a in x]) + np.diag(noise)
    cross = np.array([[covariance(a, b) for b in new] for a in x])
    prior = np.array([covariance(a, a) for a in new])
    return cross.T @ np.linalg.solve(full, y), prior - (cross * np.linalg.solve(full, cross)).sum(0)


def test_posterior_is_that_of_a_dense_process_for_values_and_for_derivatives():
    data, new = observed(), rows(points(4, 9))
    process = gp.posterior(KERNEL, NUMBERS, data)
    found = jax.jit(lambda x: gp.predict(KERNEL, process, x))(new)
    for ours, theirs in zip(found, by_hand(data, np.asarray(new)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_empty_slots_change_nothing():
    small, large = observed(), gp.extended(observed(capacity=3, slots=12), 5)
    errors = jnp.asarray([*ERRORS] * 6 + [NOISE])
    more = observed(count=3, capacity=6, slots=12)
    x = rows(points(4, 9))
    found = [
        gp.predict(KERNEL, gp.posterior(KERNEL, numbers, data), x)
        for data, numbers in [
            (small, NUMBERS),
            (large, NUMBERS),
            (more, NUMBERS._replace(noise=errors)),
        ]
    ]
    assert len(more.y) > len(small.y)
    for other in found[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, atol=1e-9), found[0], other)


def test_an_observed_slope_is_that_of_the_mean():
    data = observed()
    exact = Numbers(NUMBERS.kernel, jnp.asarray([1e-9] * 6 + [1e-9]))
    process = gp.posterior(KERNEL, exact, data)
    step = 1e-4 * jnp.eye(3)[FLOATS]
    at = data.x[::2][:3, :3]
    up, down = (
        gp.predict(KERNEL, process, derivatives.values((at[:, None] + s).reshape(-1, 3)))[0]
        for s in (step, -step)
    )
    found, there = (up - down) / 2e-4, np.asarray(data.mask[:6])
    np.testing.assert_allclose(found[there], data.y[:6][there], atol=1e-4)
    assert there.sum() == 5


def test_imagining_beside_derivatives_is_observing():
    data = gp.extended(observed(slots=5), 1)
    process = gp.posterior(KERNEL, NUMBERS, data)
    point = derivatives.values(points(1, 11))[0]
    imagined = gp.imagined(KERNEL, process, len(data.y) - 1, point)
    mean, _ = gp.predict(KERNEL, process, point[None])
    both = Observations(
        data.x.at[-1].set(point), data.y.at[-1].set(mean[0]), data.mask.at[-1].set(True)
    )
    expected = gp.predict(KERNEL, gp.posterior(KERNEL, NUMBERS, both), rows(points(4, 9)))
    found = gp.predict(KERNEL, imagined, rows(points(4, 9)))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-8)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-8)


def test_slopes_of_the_evidence_are_finite_where_points_are_equal():
    data = observed()
    data = data._replace(x=data.x.at[:, :3].set(0.5))
    evidence = lambda lengths: gp.log_evidence(KERNEL, Numbers(lengths, NUMBERS.noise), data)  # noqa: E731
    assert np.isfinite(jax.grad(evidence)(jnp.asarray(LENGTHS))).all()


def test_errors_of_derivatives_are_in_units_of_their_variances():
    space = {
        "x": mh.Float(0, 1),
        "n": mh.Int(1, 4),
        "kind": mh.Choice(("a", "b")),
        "y": mh.Float(0, 1),
    }
    dims = list(mh.space.dimensions(space).values())
    prior = derivatives.of_space(dims, points=3)
    free = jnp.arange(6.0) / 4 - 3
    numbers = prior.numbers(free)
    errors = (np.exp(free[5]) + derivatives.LEAST_ERROR) * 5 / 3
    x, y = (errors / (np.exp(free[i]) + 0.025) ** 2 for i in (2, 3))
    assert numbers.noise.shape == (7,)
    np.testing.assert_allclose(numbers.noise[:6], [x, y] * 3, rtol=1e-6)
    assert prior.seen(jnp.full((2, 4), 0.3)).shape == (2, 5)
