"""Differential evolution: its operators exactly, its selection, its speed."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.strategies import differential_evolution as de
from metahpo.strategies.differential_evolution import (
    VARIANTS,
    bounce_back,
    crossover_mask,
    distinct_others,
)

# These programs compile for seconds and run for milliseconds.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KEY = jax.random.key(0)
PLANE = {"x": mh.Float(0.0, 1.0), "y": mh.Float(0.0, 1.0)}


def test_parents_are_every_ordered_choice_of_distinct_others_equally_often():
    population, draws = 5, 20_000
    keys = jax.random.split(KEY, draws)
    parents = np.asarray(jit(jax.vmap(lambda k: distinct_others(k, population, 3)))(keys))
    for target in range(population):
        counts = collections.Counter(map(tuple, parents[:, :, target].tolist()))
        others = set(range(population)) - {target}
        assert set(counts) == set(itertools.permutations(others, 3))
        expected = draws / len(counts)
        chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
        assert chi2 < 60  # 23 degrees of freedom: p = 4e-5


def test_crossover_takes_one_coordinate_for_sure_and_the_others_at_the_rate():
    def rates(rate):
        mask = jit(jax.vmap(lambda key: crossover_mask(key, 8, 5, rate)))
        masks = mask(jax.random.split(KEY, 2000))
        return np.asarray(masks)

    assert (rates(0.0).sum(axis=-1) == 1).all()
    assert rates(1.0).all()
    half = rates(0.5)
    assert half.any(axis=-1).all()
    # Each coordinate: 1/5 for sure, else 1/2; 5 standard errors.
    np.testing.assert_allclose(half.mean(axis=(0, 1)), 0.6, atol=5 * (0.24 / 16_000) ** 0.5)


def test_bounce_back_draws_between_base_and_bound_and_leaves_the_rest():
    base = jnp.broadcast_to(jnp.array([0.2, 0.2, 0.2, 0.0, 1.0]), (4000, 5))
    point = jnp.broadcast_to(jnp.array([-0.5, 3.0, 0.7, -0.1, 1.1]), (4000, 5))
    out = np.asarray(bounce_back(KEY, base, point))
    assert ((out >= 0) & (out <= 1)).all()
    np.testing.assert_array_equal(out[:, 2], np.float32(0.7))
    np.testing.assert_array_equal(out[:, 3:], base[:, 3:])  # a base on the bound stays there
    np.testing.assert_allclose(
        np.quantile(out[:, 0], [0.25, 0.5, 0.75]), [0.05, 0.1, 0.15], atol=0.01
    )
    np.testing.assert_allclose(
        np.quantile(out[:, 1], [0.25, 0.5, 0.75]), [0.4, 0.6, 0.8], atol=0.04
    )


def told(strategy, losses):
    """The state after the first round with the given losses."""

    @jit
    def run(key):
        proposal, state = strategy.ask(key, strategy.init(key))
        evaluation = mh.Evaluation(jnp.asarray(losses), None, ())
        return strategy.tell(key, state, proposal, evaluation), proposal

    return run(KEY)


@pytest.mark.parametrize("variant", VARIANTS)
def test_trial_is_the_formula_of_its_variant(variant):
    # Parents in the middle of the cube, so that nothing bounces; all coordinates cross over.
    initial = 0.5 + 0.05 * jax.random.normal(jax.random.key(3), (4, 2))
    strategy = de(PLANE, 4, initial, variant=variant, weight=0.7, crossover_rate=1.0)
    state, _ = told(strategy, [3.0, 1.0, 2.0, 4.0])
    x, best = np.asarray(initial), np.asarray(initial[1])
    trials = np.asarray(jit(strategy.ask)(jax.random.key(8), state)[0].unit)
    for i in range(4):
        others = [x[j] for j in range(4) if j != i]
        formulas = []
        for r1, r2, r3 in itertools.permutations(others):
            base = {
                "rand/1/bin": r1,
                "best/1/bin": best,
                "current-to-best/1/bin": x[i] + 0.7 * (best - x[i]),
            }[variant]
            formulas.append(base + 0.7 * (r2 - r3))
        assert np.abs(np.array(formulas) - trials[i]).max(axis=1).min() < 1e-6


def test_dither_gives_every_trial_its_own_weight():
    initial = jnp.array([[0.5], [0.5], [0.6], [0.4], [0.5], [0.5]])
    strategy = de({"x": mh.Float(0.0, 1.0)}, 6, initial, weight=(0.5, 1.0), crossover_rate=1.0)
    state, _ = told(strategy, jnp.zeros(6))
    keys = jax.random.split(KEY, 400)
    unit = jit(jax.vmap(lambda key: strategy.ask(key, state)[0].unit))(keys)
    steps = np.abs(np.asarray(unit[:, 1, 0]) - 0.5)  # the target and the best are at 0.5
    single = [s for s in steps if 0 < s < 0.1001]  # a difference of 0.1
    assert 0.0499 < min(single) < 0.055
    assert 0.095 < max(single) < 0.1001


def test_first_round_is_accepted_whole_and_then_a_member_yields_only_to_what_is_not_worse():
    strategy = de(PLANE, 4)
    state, first = told(strategy, [1.0, jnp.inf, jnp.nan, 2.0])
    np.testing.assert_array_equal(state.unit, first.unit)
    np.testing.assert_array_equal(state.loss, [1.0, np.inf, np.inf, 2.0])

    trial, state = jit(strategy.ask)(jax.random.key(5), state)
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
    losses = jit(jax.vmap(lambda key: best(key, 40)))(keys)
    assert losses.max() < 1e-8


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_optimum_on_the_bounds_is_reached(corner):
    space = [mh.Float(0.0, 1.0)] * 5
    problem = mh.problems.function(lambda h: sum(jnp.abs(x - corner) for x in h))
    strategy = de(space, 20)
    result = jit(lambda k: mh.search(k, problem, space, strategy, rounds=100, steps=1))(KEY)
    assert result.best_loss < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "best/2/bin"}, "variant must be one of .*, got 'best/2/bin'"),
        ({"weight": 0.0}, "weight must be positive.* got 0.0"),
        ({"weight": (0.9, 0.5)}, r"weight must be positive.* got \(0.9, 0.5\)"),
        ({"crossover_rate": 1.1}, r"crossover_rate must be in \[0, 1\], got 1.1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        de(PLANE, 8, **options)
