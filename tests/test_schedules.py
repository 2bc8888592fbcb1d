"""Our schedules are optax's, for traced arguments, and have derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

COUNTS = np.arange(60)
CYCLE = {"init_value": 0.1, "peak_value": 1.0, "warmup_steps": 5, "decay_steps": 20}
# name -> arguments of optax's function
TABLE = {
    "constant_schedule": [{"value": 0.3}],
    "polynomial_schedule": [
        {"init_value": 1.0, "end_value": 0.1, "power": 2.0, "transition_steps": 30},
        {"init_value": 0.0, "end_value": 1.0, "power": 0.5, "transition_steps": 30,
         "transition_begin": 7},
        {"init_value": 1.0, "end_value": 0.1, "power": 2.0, "transition_steps": 0},
    ],
    "linear_schedule": [
        {"init_value": 1.0, "end_value": 0.1, "transition_steps": 30, "transition_begin": 5},
        {"init_value": 1.0, "end_value": 0.1, "transition_steps": 30, "transition_begin": -5},
    ],
    "exponential_decay": [
        {"init_value": 1.0, "transition_steps": 10, "decay_rate": 0.5},
        {"init_value": 1.0, "transition_steps": 10, "decay_rate": 0.5, "transition_begin": 12},
        {"init_value": 1.0, "transition_steps": 10, "decay_rate": 0.5, "end_value": 0.2},
        {"init_value": 1.0, "transition_steps": 10, "decay_rate": 1.5, "end_value": 4.0},
        {"init_value": 1.0, "transition_steps": 10, "decay_rate": 0.0, "end_value": 4.0},
        {"init_value": 1.0, "transition_steps": 0, "decay_rate": 0.5, "end_value": 0.2},
    ],
    "cosine_decay_schedule": [
        {"init_value": 1.0, "decay_steps": 40, "alpha": 0.1},
        {"init_value": 1.0, "decay_steps": 40, "exponent": 0.5},
    ],
    "warmup_constant_schedule": [{"init_value": 0.1, "peak_value": 1.0, "warmup_steps": 9}],
    "warmup_cosine_decay_schedule": [
        {**CYCLE, "decay_steps": 40, "end_value": 0.05},
        {**CYCLE, "warmup_steps": 0, "decay_steps": 40},
        {**CYCLE, "peak_value": 0.0, "decay_steps": 40, "exponent": 2.0},
    ],
    "warmup_exponential_decay_schedule": [
        {"init_value": 0.1, "peak_value": 1.0, "warmup_steps": 9, "transition_steps": 10,
         "decay_rate": 0.5, "transition_begin": 3, "end_value": 0.1},
    ],
}  # fmt: skip
ROWS = [
    pytest.param(name, row, id=f"{name}-{i}")
    for name, rows in TABLE.items()
    for i, row in enumerate(rows)
]


def values(schedule):
    return jax.vmap(schedule)(COUNTS)


@pytest.mark.parametrize(("name", "arguments"), ROWS)
def test_values_are_optaxs_with_every_number_traced(name, arguments):
    theirs = [float(getattr(optax, name)(**arguments)(count)) for count in COUNTS]
    ours = jax.jit(lambda arguments: values(getattr(mh.schedules, name)(**arguments)))(arguments)
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("name", "arguments"), ROWS)
def test_derivatives_with_respect_to_every_number_are_finite(name, arguments):
    floats = jax.tree.map(float, arguments)
    gradient = jax.grad(lambda h: values(getattr(mh.schedules, name)(**h)).sum())(floats)
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(gradient))


def test_slope_of_a_length_is_that_of_finite_differences():
    with jax.enable_x64(True):
        make = functools.partial(mh.schedules.warmup_cosine_decay_schedule, 0.1, 1.0)
        value = lambda lengths: make(lengths[0], lengths[1])(17.0)  # noqa: E731
        lengths, h = jnp.array([10.5, 41.5]), 1e-6
        slope = jax.grad(value)(lengths)
        steps = h * jnp.eye(2)
        differences = [(value(lengths + d) - value(lengths - d)) / (2 * h) for d in steps]
    np.testing.assert_allclose(slope, differences, rtol=1e-7)


def test_staircase_is_optaxs():
    arguments = {"transition_steps": 10, "decay_rate": 0.5, "staircase": True}
    theirs = [float(optax.exponential_decay(1.0, **arguments)(count)) for count in COUNTS]
    np.testing.assert_allclose(values(mh.schedules.exponential_decay(1.0, **arguments)), theirs)


def test_steps_at_boundaries_are_optaxs_as_a_dictionary_and_as_traced_pairs():
    theirs = [
        float(optax.piecewise_constant_schedule(1.0, {10: 0.5, 30: 0.1})(count)) for count in COUNTS
    ]
    pairs = jnp.array([[10, 0.5], [30, 0.1]])
    traced = jax.jit(lambda pairs: values(mh.schedules.piecewise_constant_schedule(1.0, pairs)))
    np.testing.assert_allclose(traced(pairs), theirs, rtol=1e-6)
    plain = mh.schedules.piecewise_constant_schedule(1.0, {30: 0.1, 10: 0.5})
    np.testing.assert_allclose(values(plain), theirs, rtol=1e-6)


def test_cycles_are_optaxs():
    cycles = [CYCLE, {**CYCLE, "peak_value": 0.5, "decay_steps": 30}]
    theirs = [float(optax.sgdr_schedule(cycles)(count)) for count in COUNTS]
    ours = jax.jit(lambda cycles: values(mh.schedules.sgdr_schedule(cycles)))(cycles)
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)


def test_a_boundary_is_missed_by_name():
    with pytest.raises(ValueError, match="2 schedules and 0 boundaries"):
        mh.schedules.join_schedules([mh.schedules.constant_schedule(1.0)] * 2, [])


def test_warm_up_and_decay_are_tuned_inside_one_program():
    """The best length of a warm-up from 1 to 0 on a quadratic is found by hypergradients too."""
    problem = mh.problems.training(
        mh.TaskFamily(lambda key: (), lambda key, task: jnp.ones(3), lambda p, t, s: (p**2).sum()),
        lambda h: optax.sgd(mh.schedules.linear_schedule(h["rate"], 0.0, h["length"])),
    )
    estimator = mh.hypergrad.reverse(problem, steps=10)
    hparams = {"rate": jnp.array(0.1), "length": jnp.array(5.0)}
    estimate, _ = jax.jit(estimator.estimate)(jax.random.key(0), hparams, (), ())
    assert estimate.grad["length"] < 0  # a longer one trains more
    space = {"rate": mh.Float(0.01, 0.4), "length": mh.Int(1, 10)}
    strategy = mh.strategies.random(space, population=16)
    run = jax.jit(lambda key: mh.search(key, problem, space, strategy, rounds=4, steps=10, task=()))
    assert run(jax.random.key(1)).best_loss < 1e-3
