"""Acquisition functions: references to 50 digits, in every regime and both float types."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metahpo.surrogates import acquisition

REFERENCE = np.array(
    json.loads(Path(__file__).with_name("acquisition_reference.json").read_text())
).T


def log_h(u):
    return acquisition.log_ei(u, jnp.ones_like(u), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-13), (False, 3e-6)])
def test_log_ei_equals_the_reference_in_every_regime(x64, rtol):
    u, value, slope = REFERENCE
    with jax.enable_x64(x64):
        u = jnp.asarray(u)
        found = log_h(u)
        slopes = jax.vmap(jax.grad(log_h))(u)
    # Near its zero the logarithm is what h is off by, relative to 1.
    np.testing.assert_allclose(found, value, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(slopes, slope, rtol=300 * rtol)


def test_its_slopes_are_finite_for_what_no_search_would_meet():
    u = jnp.array([-3e38, -1e19, 1e-38, 0.0, 1e19, 3e38])
    assert np.isfinite(jax.vmap(jax.grad(log_h))(u[1:-1])).all()
    assert not np.isnan(log_h(u)).any()


def test_expected_and_probability_of_improvement_are_those_of_the_normal_distribution():
    rng = np.random.default_rng(0)
    mean, std, best = rng.normal(size=50), rng.uniform(0.1, 3, 50), 0.3
    u = (mean - best) / std
    with jax.enable_x64(True):
        found = {
            name: np.asarray(fn(jnp.asarray(mean), jnp.asarray(std), best))
            for name, fn in acquisition.BY_NAME.items()
        }
    ei = std * (u * stats.norm.cdf(u) + stats.norm.pdf(u))
    np.testing.assert_allclose(found["ei"], ei, rtol=1e-12)
    np.testing.assert_allclose(found["log_ei"], np.log(ei), rtol=1e-12)
    np.testing.assert_allclose(found["pi"], stats.norm.cdf(u), rtol=1e-12)
    np.testing.assert_allclose(found["ucb"], mean + 2 * std, rtol=1e-14)


def test_expected_improvement_is_that_of_samples():
    draws = 0.4 + 0.7 * jax.random.normal(jax.random.key(0), (400_000,))
    gain = np.maximum(np.asarray(draws, "f8") - 0.9, 0)
    found = acquisition.ei(jnp.array(0.4), jnp.array(0.7), 0.9)
    assert abs(found - gain.mean()) < 4 * gain.std() / np.sqrt(len(gain))


def test_a_negative_exploration_is_refused():
    with pytest.raises(ValueError, match="exploration must be finite and at least 0, got -1"):
        acquisition.ucb(-1.0)
