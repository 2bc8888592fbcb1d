"""A training under way: cut anywhere and kept anywhere, it ends where it ends whole, to the bit."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from minibatch_sinusoid import FAMILY, PROBLEM

from metahpo import inner

pytestmark = pytest.mark.optimised  # what is compared to the bit

HPARAMS = {"lr": jnp.array(0.03)}
STEPS = 9


@pytest.fixture(scope="module")
def task():
    return FAMILY.sample(jax.random.key(1))


@functools.cache
def go_on(steps, checkpoint="none"):
    return jax.jit(inner.advance(PROBLEM, steps, checkpoint))


judge = jax.jit(functools.partial(inner.judge, PROBLEM))


def saved(training):
    """What comes back from a file: numbers without a device, keys as their data."""
    impl = jax.random.key_impl(training.keys.init)
    raw = jax.tree.map(
        lambda x: jax.device_get(jax.random.key_data(x) if is_key(x) else x), training
    )
    keys = jax.tree.map(lambda x: jax.random.wrap_key_data(jnp.asarray(x), impl=impl), raw.keys)
    return raw._replace(keys=keys)


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@pytest.fixture(scope="module")
def start(task):
    return jax.jit(lambda: inner.begin(PROBLEM, jax.random.key(0), HPARAMS, task))()


@pytest.fixture(scope="module")
def whole(start):
    return go_on(STEPS)(HPARAMS, start)


@pytest.mark.parametrize("jitted", [True, False], ids=["jit", "eager"])
@pytest.mark.parametrize("cut", [(4, 5), (1, 8), (8, 1), (3, 3, 3), (0, 9), (1,) * 9], ids=str)
def test_parts_are_the_whole_to_the_bit_also_from_a_saved_training(start, whole, cut, jitted):
    training = start
    for steps in cut:
        advance = go_on(steps) if jitted else inner.advance(PROBLEM, steps)
        training = advance(HPARAMS, saved(training))
    chex.assert_trees_all_equal(training._replace(keys=()), whole._replace(keys=()))
    assert int(training.steps) == STEPS
    assert judge(HPARAMS, training) == judge(HPARAMS, whole)


def test_a_training_is_that_of_unroll(task, whole):
    state = jax.jit(inner.unroll(PROBLEM, STEPS))(jax.random.key(0), HPARAMS, task)
    chex.assert_trees_all_equal(state, whole.state)
    loss, _ = jax.jit(inner.outer_loss(PROBLEM, STEPS))(jax.random.key(0), HPARAMS, task)
    assert loss == jax.jit(lambda t: inner.judge(PROBLEM, HPARAMS, t))(whole)


def test_every_way_of_keeping_memory_goes_on_alike(start, whole):
    for checkpoint in ("step", "sqrt", 4):
        training = go_on(4, checkpoint)(HPARAMS, start)
        training = go_on(5, checkpoint)(HPARAMS, training)
        chex.assert_trees_all_equal(training.state, whole.state)


def test_recording_sees_the_state_after_every_update(start, whole):
    advance = jax.jit(inner.advance(PROBLEM, STEPS, record=lambda state: state.params))
    training, trace = advance(HPARAMS, start)
    chex.assert_trees_all_equal(training.state, whole.state)
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[-1], trace), whole.state.params)


def test_losses_that_are_summed_on_the_way_have_keys_of_their_own(start, whole):
    noisy = PROBLEM._replace(loss=lambda key, hparams, task, state: jax.random.normal(key))
    along = [inner.judge_along(noisy, HPARAMS, t) for t in (start, whole, start)]
    assert along[0] != along[1] and along[0] == along[2]
    assert inner.judge(noisy, HPARAMS, start) == inner.judge(noisy, HPARAMS, whole)


# A loop is any step repeated.


def test_repeat_is_a_loop_over_hashed_keys():
    key = jax.random.key(4)
    loop = inner.repeat(lambda key, x: x + jax.random.uniform(key), 6)
    expected = jnp.zeros(())
    for t in range(6):
        expected = expected + jax.random.uniform(jax.random.fold_in(key, t))
    np.testing.assert_allclose(loop(key, jnp.zeros(())), expected, rtol=1e-6)
    head = inner.repeat(lambda key, x: x + jax.random.uniform(key), 2)(key, jnp.zeros(()))
    tail = inner.repeat(lambda key, x: x + jax.random.uniform(key), 4)(key, head, 2)
    np.testing.assert_array_equal(tail, loop(key, jnp.zeros(())))
