"""SNES against an independent computation of the paper's equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.strategies import snes

SPACE = {"x": mh.Float(0.0, 1.0, shape=(3,))}


def told(strategy, loss, seed=0, mean=None):
    """The proposal of a first generation, and the state after ``loss(unit)``."""
    state = strategy.init(jax.random.key(seed))
    if mean is not None:
        state = state._replace(mean=jnp.array(mean))
    proposal, asked = jax.jit(strategy.ask)(jax.random.key(seed + 1), state)
    evaluation = mh.Evaluation(loss(proposal.unit), None, ())
    tell = jax.jit(strategy.tell)
    return proposal, tell(jax.random.key(seed + 2), asked, proposal, evaluation)


def test_one_generation_is_the_papers():
    with jax.enable_x64(True):
        strategy = snes(SPACE, 6, sigma=0.3)
        proposal, state = told(
            strategy, lambda u: ((u - jnp.array([0.1, 0.9, 0.4])) ** 2).sum(1), mean=[0.3, 0.5, 0.9]
        )
    # Wierstra et al. 2014, algorithm 6, with the default rates of table 1.
    s, mean, n, d = np.asarray(proposal.note.z), np.array([0.3, 0.5, 0.9]), 6, 3
    drawn = mean + 0.3 * s
    assert ((drawn < 0) | (drawn > 1)).any()  # the ranks are those of the points on the bounds
    np.testing.assert_allclose(proposal.unit, np.clip(drawn, 0, 1), rtol=1e-14)
    loss = ((np.clip(drawn, 0, 1) - [0.1, 0.9, 0.4]) ** 2).sum(1)
    raw = np.maximum(0, np.log(n / 2 + 1) - np.log(np.arange(1, n + 1)))
    u = raw / raw.sum() - 1 / n
    best_first = s[np.argsort(loss)]
    rate = (3 + np.log(d)) / (5 * np.sqrt(d))
    std = 0.3 * np.exp(rate / 2 * sum(u[k] * (best_first[k] ** 2 - 1) for k in range(n)))
    mean = mean + 0.3 * sum(u[k] * best_first[k] for k in range(n))
    np.testing.assert_allclose(state.std, std, rtol=1e-12)
    np.testing.assert_allclose(state.mean, np.clip(mean, -std, 1 + std), rtol=1e-12)


def test_rates_and_sigma_may_be_traced():
    def run(sigma, rate):
        strategy = snes(SPACE, 4, sigma=sigma, mean_rate=rate, sigma_rate=0.0 * rate)
        _, state = told(strategy, lambda u: u.sum(1))
        return state

    state = jax.jit(run)(0.1, 0.5)
    np.testing.assert_allclose(state.std, 0.1, rtol=1e-6)
    full = jax.jit(run)(0.1, 1.0)
    np.testing.assert_allclose(full.mean - 0.5, 2 * (state.mean - 0.5), rtol=1e-4)


def test_learns_a_scale_for_every_coordinate():
    """On an axis-parallel ellipsoid of condition 1e4 the deviations become 1 : 0.1 : 0.01."""
    problem = mh.problems.function(
        lambda h: (10.0 ** jnp.array([0, 2, 4]) * (h["x"] - 0.4) ** 2).sum()
    )
    with jax.enable_x64(True):
        strategy = snes(SPACE, 10)

        def ratio(key):
            def step(state, key):
                proposal, state = strategy.ask(key, state)
                loss = jax.vmap(lambda u: problem.loss(key, {"x": u}, None, ()))(proposal.unit)
                return strategy.tell(key, state, proposal, mh.Evaluation(loss, None, ())), None

            state, _ = jax.lax.scan(step, strategy.init(key), jax.random.split(key, 150))
            return jnp.log10(state.std / state.std[0])

        ratios = jax.jit(jax.vmap(ratio))(jax.random.split(jax.random.key(0), 64))
    # The deviations of the equilibrium are inversely proportional to the axes' slopes.
    np.testing.assert_allclose(np.median(ratios, axis=0), [0, -1, -2], atol=0.15)


@pytest.mark.parametrize(
    "options", [{"sigma": 0.0}, {"sigma": jnp.nan}, {"mean_rate": -1.0}, {"sigma_rate": 0.0}]
)
def test_numbers_that_are_not_positive_are_refused(options):
    name = next(iter(options))
    with pytest.raises(ValueError, match=f"{name} must be positive, got"):
        snes(SPACE, 4, **options)
