"""The segments of the tuning environment are one training, to the bit."""

import functools

import chex
import jax
import jax.numpy as jnp
import pytest
from minibatch_sinusoid import FAMILY, PROBLEM

import metahpo as mh

pytestmark = pytest.mark.optimised  # what is compared to the bit

SPACE = {"lr": mh.Float(1e-3, 1e-1, log=True)}


@pytest.fixture(scope="module")
def task():
    return FAMILY.sample(jax.random.key(1))


@functools.cache
def still(segments, steps):
    """A segmented training of the environment in which nothing moves."""
    environment = mh.rl.tuning_environment(PROBLEM, SPACE, steps, segments, moves=(0.0,))

    @jax.jit
    def run(task):
        start = environment.reset(jax.random.key(3), task)

        def step(state, _):
            return environment.step(jax.random.key(9), state, jnp.array([0]))

        return jax.lax.scan(step, start, length=segments)[0]

    return run


@pytest.mark.parametrize("cut", [(2, 6), (4, 3), (12, 1)])
def test_segments_without_moves_are_one_training_to_the_bit(task, cut):
    segments, steps = cut
    parts, whole = still(segments, steps)(task), still(1, 12)(task)
    assert parts.loss == whole.loss and int(parts.training.steps) == 12
    chex.assert_trees_all_equal(parts.training.state, whole.training.state)


def test_the_environment_stays_with_the_task_of_its_reset(task):
    other = FAMILY.sample(jax.random.key(8))
    environment = mh.rl.tuning_environment(PROBLEM, SPACE, 3, 2)
    step, ends = jax.jit(environment.step), {}
    for name, given in {"task": task, "other": other}.items():
        state = environment.reset(jax.random.key(3), given)
        for key in (0, 1):  # nor does it matter which keys the steps have
            state, _ = step(jax.random.key(key), state, jnp.array([2]))
        chex.assert_trees_all_equal(state.training.task, given)
        ends[name] = float(state.loss)
    again = environment.reset(jax.random.key(3), task)
    for key in (7, 8):
        again, _ = step(jax.random.key(key), again, jnp.array([2]))
    assert float(again.loss) == ends["task"] != ends["other"]
