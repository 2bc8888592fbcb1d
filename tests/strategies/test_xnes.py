"""xNES against independent computations, hand cases and the definition of its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import metahpo as mh
from metahpo.strategies import xnes
from metahpo.strategies.nes.xnes import LONGEST_STEP, exponential, natural_step

SPACE = {"x": mh.Float(0.0, 1.0, shape=(3,))}


def symmetric(size, norm, seed=0):
    matrix = np.random.default_rng(seed).normal(size=(size, size))
    matrix = matrix + matrix.T
    return matrix * norm / np.linalg.norm(matrix)


def rotation(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def test_one_generation_is_the_papers():
    """From a distribution that is not isotropic; sigma and B apart, as in the paper."""
    rng = np.random.default_rng(1)
    mean, sigma = np.array([0.3, 0.5, 0.9]), 0.2
    b = expm(symmetric(3, 1.0))
    b /= np.linalg.det(b) ** (1 / 3)
    optimum = rng.uniform(size=3)
    rates = (0.9, 0.4, 0.3)
    with jax.enable_x64(True):
        strategy = xnes(SPACE, 6, mean_rate=0.9, sigma_rate=0.4, shape_rate=0.3)
        state = strategy.init(jax.random.key(0))
        state = state._replace(mean=jnp.array(mean), factor=jnp.array(sigma * b))
        proposal, state = jax.jit(strategy.ask)(jax.random.key(1), state)
        loss = ((proposal.unit - optimum) ** 2).sum(1)
        z = np.asarray(proposal.note.z)
        evaluation = mh.Evaluation(loss, None, ())
        state = jax.jit(strategy.tell)(jax.random.key(2), state, proposal, evaluation)
    drawn = mean + sigma * z @ b.T
    np.testing.assert_allclose(proposal.unit, np.clip(drawn, 0, 1), rtol=1e-12)
    # Wierstra et al. 2014, algorithm 5.
    n, d = 6, 3
    raw = np.maximum(0, np.log(n / 2 + 1) - np.log(np.arange(1, n + 1)))
    u = raw / raw.sum() - 1 / n
    s = z[np.argsort(((np.clip(drawn, 0, 1) - optimum) ** 2).sum(1))]
    g_delta = sum(u[k] * s[k] for k in range(n))
    g_m = sum(u[k] * (np.outer(s[k], s[k]) - np.eye(d)) for k in range(n))
    g_sigma = np.trace(g_m) / d
    g_b = g_m - g_sigma * np.eye(d)
    new_mean = mean + rates[0] * sigma * b @ g_delta
    factor = sigma * np.exp(rates[1] / 2 * g_sigma) * b @ expm(rates[2] / 2 * g_b)
    np.testing.assert_allclose(state.factor, factor, rtol=1e-11)
    np.testing.assert_allclose(state.mean, new_mean, rtol=1e-11)


def test_natural_step_of_two_samples_by_hand():
    """z = (1, 0) wins over z = (0, 0): G = diag(1/2, 0), of trace / D = 1/4."""
    z, utility = jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([0.5, -0.5])
    step = jax.jit(natural_step)
    mean, factor = step(jnp.zeros(2), 3.0 * jnp.eye(2), z, utility, (0.1, 0.8, 0.4))
    np.testing.assert_allclose(mean, [0.1 * 3.0 * 0.5, 0.0], rtol=1e-6)
    # exp((0.8 / 4 + 0.4 / 4) / 2) along the step and exp((0.8 / 4 - 0.4 / 4) / 2) across it.
    np.testing.assert_allclose(factor, 3.0 * np.diag(np.exp([0.15, 0.05])), rtol=1e-6)


def test_gradient_is_the_natural_one_in_exponential_coordinates():
    """Scores by automatic differentiation, divided by the Fisher information measured on them."""

    def log_density(delta, m, z):  # of x = A z + mean under N(mean + A delta, A exp(m) A^T)
        away = z - delta
        return -0.5 * (jnp.trace(m) + away @ jax.scipy.linalg.expm(-m) @ away)

    with jax.enable_x64(True):
        zero = (jnp.zeros(2), jnp.zeros((2, 2)))
        samples = jax.random.normal(jax.random.key(0), (4000, 2))
        scores = jax.jit(jax.vmap(jax.grad(log_density, (0, 1)), (None, None, 0)))(*zero, samples)
    z = np.asarray(samples)
    np.testing.assert_allclose(scores[0], z, atol=1e-12)
    g_m = np.einsum("pi,pj->pij", z, z) - np.eye(2)
    half = 0.5 * (np.asarray(scores[1]) + np.asarray(scores[1]).transpose(0, 2, 1))
    np.testing.assert_allclose(half, 0.5 * g_m, atol=1e-12)
    # <score, h>^2 averages to |h|^2 / 2 for symmetric h: Fisher information 1/2, so the natural
    # gradient is z z^T - I, of which the factor takes half.
    for h in (np.diag([1.0, 0.0]), np.array([[0.0, 0.5], [0.5, 0.0]])):
        fisher = ((half * h).sum((1, 2)) ** 2).mean() / (h**2).sum()
        assert fisher == pytest.approx(0.5, rel=0.15)  # 4,000 samples


def test_step_turns_with_the_coordinates():
    rng = np.random.default_rng(2)
    z, utility, turn = rng.normal(size=(8, 4)), rng.normal(size=8), rotation(4)
    utility -= utility.mean()
    with jax.enable_x64(True):
        step = jax.jit(natural_step)
        rates = (1.0, 0.3, 0.2)
        plain = step(jnp.zeros(4), 0.1 * jnp.eye(4), jnp.array(z), utility, rates)
        turned = step(jnp.zeros(4), 0.1 * jnp.eye(4), jnp.array(z @ turn.T), utility, rates)
    mean, factor = map(np.asarray, plain)
    np.testing.assert_allclose(turned[0], turn @ mean, atol=1e-14)
    np.testing.assert_allclose(turned[1], turn @ factor @ turn.T, atol=1e-14)


@pytest.mark.parametrize("norm", [0.0, 1e-3, 1.0, LONGEST_STEP])
def test_exponential_is_scipys(norm):
    matrix = symmetric(7, norm)
    with jax.enable_x64(True):
        ours = jax.jit(exponential)(jnp.array(matrix))
    np.testing.assert_allclose(ours, expm(matrix), rtol=0, atol=2e-13 * np.exp(norm))
    if norm == 0.0:
        np.testing.assert_array_equal(ours, np.eye(7))


def test_one_step_never_scales_a_direction_beyond_the_limit():
    z, utility = jnp.array([[100.0, 0.0], [0.0, 1.0]]), jnp.array([0.5, -0.5])
    _, factor = jax.jit(natural_step)(jnp.zeros(2), jnp.eye(2), z, utility, (1.0, 1.0, 1.0))
    scales = np.linalg.svd(factor, compute_uv=False)
    assert scales[0] == pytest.approx(np.exp(LONGEST_STEP), rel=1e-3)
    assert scales[1] > np.exp(-LONGEST_STEP)


def test_learns_a_rotated_valley_that_snes_does_not():
    """Condition 1e6, axes along the diagonals: a separable distribution cannot follow it."""
    space = {"x": mh.Float(-1.0, 1.0, shape=(2,))}

    def valley(h):
        x, y = h["x"] - jnp.array([0.3, -0.2])
        return (x + y) ** 2 + 1e-6 * (x - y) ** 2

    def best(key):
        problem = mh.problems.function(valley)
        options = {"rounds": 250, "steps": 1}
        return [
            mh.search(key, problem, space, make(space, 8), **options).best_loss
            for make in (xnes, mh.strategies.snes)
        ]

    with jax.enable_x64(True):
        ours, separable = jax.jit(jax.vmap(best))(jax.random.split(jax.random.key(0), 32))
    assert np.mean(np.asarray(ours) < 1e-12) >= 0.95
    assert np.median(separable) > 1e-10
