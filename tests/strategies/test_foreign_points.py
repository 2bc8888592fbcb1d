"""Points that are told but were not proposed: strategies learn from where they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import strategies

TARGET = jnp.array([0.8, 0.15, 0.6])
SPACE = {"x": mh.Float(0.0, 1.0, shape=(3,))}
NORMAL = {
    "cma_es": lambda: strategies.cma_es(SPACE, 10),
    "cma_es, eigen": lambda: strategies.cma_es(SPACE, 10, factor="eigen"),
    "cma_es, separable": lambda: strategies.cma_es(SPACE, 10, covariance="separable"),
    "bipop_cma_es": lambda: strategies.bipop_cma_es(SPACE, 10, doublings=1),
    "snes": lambda: strategies.snes(SPACE, 10),
    "xnes": lambda: strategies.xnes(SPACE, 10),
    "open_es": lambda: strategies.open_es(SPACE, 10),
}
OTHERS = {
    "differential_evolution": lambda: strategies.differential_evolution(SPACE, 10),
    "genetic": lambda: strategies.genetic(SPACE, 10),
}


def loss(unit):
    return ((unit - TARGET) ** 2).sum(-1)


def told(strategy, key, points, rounds=60):
    """Losses of what is asked while ``points(key, unit)`` are told; and the last state."""
    first, rest = jax.random.split(key)

    def body(state, key):
        ask, tell, outside = jax.random.split(key, 3)
        proposal, state = strategy.ask(ask, state)
        was, unit = loss(proposal.unit), points(outside, proposal.unit)
        evaluation = mh.Evaluation(loss(unit), None, None)
        return strategy.tell(tell, state, proposal._replace(unit=unit), evaluation), was

    start = jax.tree.map(jnp.asarray, strategy.init(first))
    return jax.lax.scan(body, start, jax.random.split(rest, rounds))[::-1]


def median_at_the_end(make, points):
    keys = jax.random.split(jax.random.key(0), 20)
    history = jax.jit(jax.vmap(lambda key: told(make(), key, points)[0]))(keys)
    return np.median(np.asarray(history)[:, -10:])


@pytest.mark.parametrize("name", NORMAL | OTHERS)
def test_uniform_points_from_elsewhere_lead_to_the_optimum(name):
    def elsewhere(key, unit):
        return jax.random.uniform(key, unit.shape)

    assert median_at_the_end((NORMAL | OTHERS)[name], elsewhere) < 0.2  # 0.29 in the middle


@pytest.mark.parametrize("name", NORMAL)
def test_repaired_points_are_learned_from_as_they_are(name):
    def on_a_grid(key, unit):
        return jnp.round(unit * 50) / 50

    assert median_at_the_end(NORMAL[name], on_a_grid) < 0.02


@pytest.mark.parametrize("name", NORMAL)
def test_whose_points_are_told_as_they_were_proposed_sees_its_own_numbers(name):
    strategy = NORMAL[name]()
    state = strategy.init(jax.random.key(0))
    proposal, state = strategy.ask(jax.random.key(1), state)

    def tell(unit):
        evaluation = mh.Evaluation(loss(proposal.unit), None, None)
        new = strategy.tell(jax.random.key(2), state, proposal._replace(unit=unit), evaluation)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(new)]

    plain = tell(proposal.unit)
    best = jnp.argmin(loss(proposal.unit))  # CMA-ES counts foreign points among the good alone
    close = tell(proposal.unit.at[best].add(1e-6))
    for a, b in zip(plain, close, strict=True):
        if a.dtype != bool:  # which members are foreign
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_a_point_far_away_moves_the_mean_by_a_long_sample_at_most():
    strategy = strategies.cma_es(SPACE, 10, sigma=1e-3)
    state = strategy.init(jax.random.key(0))
    proposal, state = strategy.ask(jax.random.key(1), state)
    unit = proposal.unit.at[0].set(TARGET)
    new = strategy.tell(
        jax.random.key(2),
        state,
        proposal._replace(unit=unit),
        mh.Evaluation(loss(unit), None, None),
    )
    moved = np.linalg.norm(new.normal.mean - state.normal.mean)
    assert 5e-4 < moved < 1e-3 * (np.sqrt(3) + 6 / 5)
