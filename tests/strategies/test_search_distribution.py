"""What SNES, xNES and OpenES have in common: bounds, failures, invariances, first points, ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xla

import metahpo as mh
from metahpo import strategies
from metahpo.base import StopReason
from metahpo.strategies import search_distribution
from metahpo.strategies.nes.xnes import deviations

NAMES = ["snes", "xnes", "open_es"]
SIZE, POPULATION = 4, 10
SPACE = {"x": mh.Float(0.0, 1.0, shape=(SIZE,))}
OPTIMUM = jnp.array([0.15, 0.3, 0.6, 0.8])


def make(name, space=SPACE, initial=None):
    return getattr(strategies, name)(space, POPULATION, initial)


def spread(state):
    return deviations(state.factor) if hasattr(state, "factor") else state.std


def evolve(strategy, loss, rounds, key, budget=None):
    """The last state and all points of ``rounds`` generations of ``loss(unit f[P, D])``."""

    def step(state, key):
        proposal, state = strategy.ask(key, state)
        if budget is not None:
            proposal = proposal._replace(budget=budget)
        evaluation = mh.Evaluation(loss(proposal.unit), None, ())
        return strategy.tell(key, state, proposal, evaluation), proposal.unit

    return jax.lax.scan(step, strategy.init(key), jax.random.split(key, rounds))


def sphere(unit):
    return ((unit - OPTIMUM) ** 2).sum(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_increasing_transforms_of_the_loss_give_the_identical_search(name):
    transforms = [sphere, lambda u: jnp.log(sphere(u)), lambda u: -1.0 / (1e-3 + sphere(u)) + 7.0]
    with jax.enable_x64(True):
        runs = jax.jit(
            lambda key: [evolve(make(name), f, 30, key)[1] for f in transforms],
            compiler_options=xla.FULL,  # the same bits for each
        )
        first, *others = runs(jax.random.key(0))
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("name", NAMES)
def test_constant_losses_move_nothing(name):
    start = jnp.array([[0.2, 0.4, 0.6, 0.9]])
    strategy = make(name, initial=start)

    def last(value):
        return evolve(strategy, lambda u: jnp.full(POPULATION, value), 50, jax.random.key(0))[0]

    state = jax.jit(jax.vmap(last))(jnp.array([2.5, jnp.inf]))
    np.testing.assert_array_equal(state.mean, jnp.concatenate([start, start]))
    first = np.asarray(spread(strategy.init(jax.random.key(0))))
    expected = first * 0.99**50 if name == "open_es" else first  # which decays by plan
    wide = np.asarray(jax.vmap(spread)(state))
    np.testing.assert_allclose(wide, np.stack([expected] * 2), rtol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_idle_slots_are_ignored(name):
    budget = jnp.arange(POPULATION, dtype=jnp.int32) % 3

    def last(idle_loss):
        def loss(unit):
            return jnp.where(budget > 0, sphere(unit), idle_loss)

        return evolve(make(name), loss, 5, jax.random.key(0), budget)[0].mean

    low, high = jax.jit(jax.vmap(last))(jnp.array([-1.0, jnp.inf]))
    np.testing.assert_array_equal(low, high)
    assert float(jnp.abs(low - 0.5).max()) > 0.01  # the others are learned from


@pytest.mark.parametrize("name", NAMES)
def test_optimum_in_a_corner_is_reached_exactly_and_one_near_a_bound_closely(name):
    """A slope towards a corner, and a sphere 0.001 away from two bounds."""
    near = jnp.array([0.001, 0.999, 0.5, 0.5])
    losses = [lambda u: u @ jnp.array([1.0, -1.0, 5.0, -0.2]), lambda u: ((u - near) ** 2).sum(1)]
    with jax.enable_x64(True):
        runs = jax.jit(
            jax.vmap(lambda key: [evolve(make(name), loss, 600, key)[1] for loss in losses])
        )
        slope, bowl = map(np.asarray, runs(jax.random.split(jax.random.key(0), 16)))
    assert (slope == [0, 1, 0, 1]).all(-1).any((1, 2)).all()
    distance = np.abs(bowl - near).max(-1).min((1, 2))
    assert distance.max() < (1e-3 if name == "open_es" else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_search_starts_at_the_mean_of_the_given_points(name):
    initial = jnp.array([[0.2, 0.4, 0.6, 0.8], [0.4, 0.4, 0.2, 0.8], [0.3, 0.1, 0.1, 0.8]])
    strategy = make(name, initial=initial)
    state = strategy.init(jax.random.key(0))
    np.testing.assert_allclose(state.mean, [0.3, 0.3, 0.3, 0.8], rtol=1e-6)
    ask = jax.jit(strategy.ask)
    proposal, asked = ask(jax.random.key(1), state)
    np.testing.assert_array_equal(proposal.unit[:3], initial)
    std = spread(state)
    # Near points are learned from as samples of the distribution.
    np.testing.assert_allclose(state.mean + std * proposal.note.z[:3], initial, atol=1e-6)
    evaluation = mh.Evaluation(sphere(proposal.unit), None, ())
    state = jax.jit(strategy.tell)(jax.random.key(2), asked, proposal, evaluation)
    again, _ = ask(jax.random.key(3), state)
    assert not np.isin(np.asarray(again.unit), np.asarray(initial)).any()  # and then forgotten
    np.testing.assert_allclose(make(name).init(jax.random.key(0)).mean, 0.5)


def test_far_points_are_learned_from_as_long_samples():
    given = jnp.array([[0.9, 0.5], [0.1, 0.5], [0.5, 0.51]])
    z = jnp.ones((5, 2))
    injected = search_distribution.inject(
        jnp.bool_(True), given, jnp.full(2, 0.5), jnp.full(2, 0.01), z
    )
    longest = np.sqrt(2) + 2 * 2 / 4
    np.testing.assert_allclose(injected[:3], [[longest, 0], [-longest, 0], [0, 1]], atol=1e-4)
    np.testing.assert_array_equal(injected[3:], z[3:])
    later = search_distribution.inject(jnp.bool_(False), given, jnp.ones(2), jnp.ones(2), z)
    np.testing.assert_array_equal(later, z)


@pytest.mark.parametrize("name", ["snes", "xnes"])
def test_stops_once_no_float_can_change(name):
    strategy = make(name)

    def run(key):
        early, _ = evolve(strategy, sphere, 40, key)
        end, _ = evolve(strategy, sphere, 1500, key)
        return strategy.stop(early), strategy.stop(end), end.mean

    early, end, mean = jax.jit(run)(jax.random.key(0))
    assert (int(early), int(end)) == (StopReason.RUNNING, StopReason.COLLAPSE)
    assert end.dtype == jnp.int32
    np.testing.assert_allclose(mean, OPTIMUM, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_space_without_floats_never_collapses(name):
    space = {"n": mh.Int(0, 9), "c": mh.Choice(("a", "b"), shape=(3,))}
    assert make(name, space).stop is None


@pytest.mark.parametrize("name", NAMES)
def test_distribution_stays_of_use_where_the_loss_rewards_width(name):
    """A loss that is lowest on all bounds would let the deviations grow for ever."""

    def bounds(unit):
        return -jnp.abs(unit - 0.5).sum(1)

    state, units = jax.jit(lambda key: evolve(make(name), bounds, 300, key))(jax.random.key(0))
    std = np.asarray(spread(state))
    assert np.isfinite(state.mean).all() and (std <= 1.0 + 1e-6).all()
    assert ((state.mean >= -std - 1e-6) & (state.mean <= 1 + std + 1e-6)).all()
    assert np.asarray(bounds(units[-1])).min() == pytest.approx(-2.0, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_integers_that_the_loss_ignores_keep_mutating(name):
    """Long after the floats have converged, about 1 / (P D) of the values are still new."""
    space = {"n": mh.Int(0, 4), "x": mh.Float(0.0, 1.0, shape=(3,))}

    def loss(unit):
        return ((unit[:, 1:] - OPTIMUM[1:]) ** 2).sum(1) + (jnp.floor(5 * unit[:, 0]) != 3)

    run = jax.jit(jax.vmap(lambda key: evolve(make(name, space), loss, 400, key)[1]))
    value = np.floor(5 * np.asarray(run(jax.random.split(jax.random.key(0), 16)))[:, 200:, :, 0])
    share = (value != 3).mean()
    assert 0.5 / (POPULATION * SIZE) < share < 4 / (POPULATION * SIZE)
