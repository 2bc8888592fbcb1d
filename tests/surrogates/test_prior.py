"""What a process supposes of a search space, and the numbers that fit it best: scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.surrogates import fit, prior
from metahpo.surrogates import gaussian_process as gp

DIMS = [mh.Float(0.0, 1.0), mh.Int(1, 5), mh.Choice(("a", "b", "c"))]


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_density_is_that_of_log_normal_numbers():
    stats = pytest.importorskip("scipy.stats")
    made = prior.of_space(DIMS)
    free = np.array([0.3, -1.0, 2.0, -5.0])
    lengths = stats.norm(np.sqrt(2) + np.log(3) / 2, np.sqrt(3))
    expected = lengths.logpdf(free[:3]).sum() + stats.norm(-7, 1).logpdf(free[3])
    at_mode = 3 * lengths.logpdf(lengths.mean()) + stats.norm(-7, 1).logpdf(-7)
    np.testing.assert_allclose(made.log_density(free), expected - at_mode, rtol=1e-12)
    np.testing.assert_allclose(made.log_density(made.mode), 0)
    assert made.numbers(free).noise == np.exp(-5.0) + 1e-4


def test_integers_are_seen_at_their_cell_and_choices_by_their_index():
    seen = prior.of_space(DIMS).seen(jnp.array([[0.3, 0.05, 0.9], [0.3, 0.15, 0.99]]))
    np.testing.assert_allclose(seen[0], seen[1])
    assert seen[0, 2] == 2


def test_points_of_several_branches_have_a_covariance_that_is_positive_definite():
    space = {"x": mh.Float(0.0, 1.0), "m": mh.OneOf(a=mh.Float(0.0, 1.0), b=mh.Int(1, 9), c={})}
    dims = list(mh.space.dimensions(space).values())
    made = prior.of_space(dims, canonical=lambda points: mh.space.canonical(space, points))
    unit = jax.random.uniform(jax.random.key(0), (40, 4))
    other = jnp.where(mh.space.active(space, unit), unit, 0.9)
    np.testing.assert_array_equal(made.seen(unit), made.seen(other))
    numbers = made.numbers(jnp.log(jnp.array([0.1, 0.1, 3.0, 0.1, 1e-3])))
    seen = made.seen(unit)
    found = np.asarray(made.kernel.covariance(numbers.kernel, seen, seen))
    assert np.linalg.eigvalsh(found).min() > -1e-10


def test_covariance_is_the_product_of_matern_and_hamming():
    made = prior.of_space(DIMS)
    rows = jnp.array([[0.2, 0.1, 0.0], [0.7, 0.5, 0.0], [0.2, 0.1, 2.0]])
    numbers = made.numbers(jnp.log(jnp.array([0.5, 1.0, 2.0, 1e-3]) - 0.025))
    found = made.kernel.covariance(numbers.kernel, rows[:1], rows)[0]
    t = np.sqrt(5 * (1.0 + 0.16))
    expected = [1, (1 + t + t**2 / 3) * np.exp(-t), np.exp(-1 / 2)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def observations():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(30, 2))
    y = np.sin(6 * x[:, 0]) + 0.1 * x[:, 1] + 0.01 * rng.normal(size=30)
    return gp.extended(
        jax.tree.map(jnp.asarray, gp.Observations(x, (y - y.mean()) / y.std(), np.ones(30, bool))),
        6,
    )


def test_fit_finds_the_mode_that_scipy_finds():
    optimize = pytest.importorskip("scipy.optimize")
    made, data = prior.of_space([mh.Float(0.0, 1.0)] * 2), observations()

    @jax.jit
    def loss(free):
        evidence = gp.log_evidence(made.kernel, made.numbers(free), data)
        return -evidence - made.log_density(free)

    theirs = optimize.minimize(jax.value_and_grad(loss), np.asarray(made.mode), jac=True).fun
    starts = jnp.stack([made.mode, made.mode - 1])
    found = fit.mode(made.kernel, made.numbers, made.log_density, starts, data, 100)
    np.testing.assert_allclose(loss(found), theirs, rtol=1e-4)
    # So few steps as a suggestion takes are not far off.
    quick = fit.mode(made.kernel, made.numbers, made.log_density, starts, data, 24)
    assert loss(quick) - theirs < 1.0
