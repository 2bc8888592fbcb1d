"""Differential evolution: its operators exactly, its selection, its speed."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.strategies import differential_evolution as de
from metahpo.strategies.de.differential_evolution import VARIANTS

KEY = jax.random.key(0)
PLANE = {"x": mh.Float(0.0, 1.0), "y": mh.Float(0.0, 1.0)}


def told(strategy, losses):
    """The state after the first round with the given losses."""

    @jax.jit
    def run(key):
        proposal, state = strategy.ask(key, strategy.init(key))
        evaluation = mh.Evaluation(jnp.asarray(losses), None, ())
        return strategy.tell(key, state, proposal, evaluation), proposal

    return run(KEY)


@pytest.mark.parametrize("variant", VARIANTS)
def test_trial_is_the_formula_of_its_variant(variant):
    # Parents in the middle of the cube, so that nothing bounces; all coordinates cross over.
    initial = 0.5 + 0.05 * jax.random.normal(jax.random.key(3), (4, 2))
    options = {"weight": 0.7, "crossover_rate": 1.0, "best_share": 0.5}
    strategy = de(PLANE, 4, initial, variant=variant, **options)
    state, _ = told(strategy, [3.0, 1.0, 2.0, 4.0])
    x, best, second = np.asarray(initial), np.asarray(initial[1]), np.asarray(initial[2])
    trials = np.asarray(jax.jit(strategy.ask)(jax.random.key(8), state)[0].unit)
    for i in range(4):
        others = [x[j] for j in range(4) if j != i]
        formulas = []
        for r1, r2, r3 in itertools.permutations(others):
            bases = {
                "rand/1/bin": [r1],
                "best/1/bin": [best],
                "current-to-best/1/bin": [x[i] + 0.7 * (best - x[i])],
                "current-to-pbest/1/bin": [x[i] + 0.7 * (p - x[i]) for p in (best, second)],
            }[variant]
            formulas += [base + 0.7 * (r2 - r3) for base in bases]
        assert np.abs(np.array(formulas) - trials[i]).max(axis=1).min() < 1e-6


def test_dither_gives_every_trial_its_own_weight():
    initial = jnp.array([[0.5], [0.5], [0.6], [0.4], [0.5], [0.5]])
    strategy = de({"x": mh.Float(0.0, 1.0)}, 6, initial, weight=(0.5, 1.0), crossover_rate=1.0)
    state, _ = told(strategy, jnp.zeros(6))
    keys = jax.random.split(KEY, 400)
    unit = jax.jit(jax.vmap(lambda key: strategy.ask(key, state)[0].unit))(keys)
    steps = np.abs(np.asarray(unit[:, 1, 0]) - 0.5)  # the target and the best are at 0.5
    single = [s for s in steps if 0 < s < 0.1001]  # a difference of 0.1
    assert 0.0499 < min(single) < 0.055
    assert 0.095 < max(single) < 0.1001


def test_first_round_is_accepted_whole_and_then_a_member_yields_only_to_what_is_not_worse():
    strategy = de(PLANE, 4)
    state, first = told(strategy, [1.0, jnp.inf, jnp.nan, 2.0])
    np.testing.assert_array_equal(state.unit, first.unit)
    np.testing.assert_array_equal(state.loss, [1.0, np.inf, np.inf, 2.0])

    trial, state = jax.jit(strategy.ask)(jax.random.key(5), state)
    loss = jnp.array(
        [1.5, 9.0, jnp.inf, 2.0]
    )  # worse, finite after infinite, still infinite, equal
    after = strategy.tell(KEY, state, trial, mh.Evaluation(loss, None, ()))
    np.testing.assert_array_equal(after.unit[0], first.unit[0])
    np.testing.assert_array_equal(after.unit[1:], trial.unit[1:])
    np.testing.assert_array_equal(after.loss, [1.0, 9.0, np.inf, 2.0])


def test_ten_dimensional_sphere_is_solved_to_1e_8_within_10000_evaluations():
    space = [mh.Float(-5.0, 5.0)] * 10
    problem = mh.problems.function(lambda h: sum((x - 1.234) ** 2 for x in h))

    def best(key, population):
        strategy = de(space, population)
        rounds = 10_000 // population
        return mh.search(key, problem, space, strategy, rounds=rounds, steps=1).best_loss

    keys = jax.random.split(KEY, 8)
    losses = jax.jit(jax.vmap(lambda key: best(key, 40)))(keys)
    assert losses.max() < 1e-8


def test_traced_numbers_give_what_plain_ones_give():
    def first_trials(weight, rate):
        strategy = de(PLANE, 6, weight=weight, crossover_rate=rate)
        proposal, state = strategy.ask(KEY, strategy.init(KEY))
        evaluation = mh.Evaluation(jnp.arange(6.0), None, ())
        state = strategy.tell(KEY, state, proposal, evaluation)
        return strategy.ask(jax.random.key(4), state)[0].unit

    traced = jax.jit(lambda low, high, rate: first_trials((low, high), rate))(0.4, 0.8, 0.7)
    plain = jax.jit(lambda: first_trials((0.4, 0.8), 0.7))()
    np.testing.assert_allclose(traced, plain, rtol=1e-6)


def test_stop_says_collapse_only_when_all_members_are_equal():
    strategy = de(PLANE, 4)
    state = strategy.init(KEY)
    assert strategy.stop(state) == mh.StopReason.RUNNING
    same = state._replace(unit=jnp.full((4, 2), 0.25))
    assert strategy.stop(same) == mh.StopReason.COLLAPSE
    almost = same.unit.at[2, 1].add(1e-6)
    assert strategy.stop(same._replace(unit=almost)) == mh.StopReason.RUNNING


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_optimum_on_the_bounds_is_reached(corner):
    space = [mh.Float(0.0, 1.0)] * 5
    problem = mh.problems.function(lambda h: sum(jnp.abs(x - corner) for x in h))
    strategy = de(space, 20)
    result = jax.jit(lambda k: mh.search(k, problem, space, strategy, rounds=100, steps=1))(KEY)
    assert result.best_loss < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "best/2/bin"}, "variant must be one of .*, got 'best/2/bin'"),
        ({"weight": 0.0}, "weight must be positive.* got 0.0"),
        ({"weight": (0.9, 0.5)}, r"weight must be positive.* got \(0.9, 0.5\)"),
        ({"best_share": 0.0}, r"best_share must be in \(0, 1\], got 0.0"),
        ({"crossover_rate": 1.1}, r"crossover_rate must be in \[0, 1\], got 1.1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        de(PLANE, 8, **options)
