"""Work that is not due must not be done, also for many lanes at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.lanes import when

pytestmark = pytest.mark.versions


class Counted:
    """Doubles and adds; counts how often it really runs."""

    def __init__(self):
        self.runs = 0

    def __call__(self, x, added):
        jax.debug.callback(self._count)  # no argument, so once a run for all lanes
        return jax.tree.map(lambda leaf: 2 * leaf + added, x)

    def _count(self):
        self.runs += 1


def finished(result):
    jax.block_until_ready(result)
    jax.effects_barrier()
    return result


def test_a_false_predicate_returns_the_argument_and_runs_nothing():
    fn = Counted()
    run = jax.jit(lambda pred, x: when(pred, fn, x, jnp.float32(1.0)))
    assert float(finished(run(False, jnp.float32(3.0)))) == 3.0
    assert fn.runs == 0
    assert float(finished(run(True, jnp.float32(3.0)))) == 7.0
    assert fn.runs == 1


@pytest.mark.parametrize("compiled", [False, True])
def test_every_lane_gets_what_it_asked_for_and_none_asking_runs_nothing(compiled):
    fn = Counted()

    def run(preds, x, added):
        return jax.vmap(lambda p, x: when(p, fn, x, added))(preds, x)

    run = jax.jit(run) if compiled else run
    x, added = {"a": jnp.arange(3.0), "b": jnp.ones((3, 2))}, jnp.float32(1.0)
    result = finished(run(jnp.array([True, False, True]), x, added))
    np.testing.assert_array_equal(result["a"], [1.0, 1.0, 5.0])
    np.testing.assert_array_equal(result["b"], [[3.0, 3.0], [1.0, 1.0], [3.0, 3.0]])
    assert fn.runs == 1
    jax.tree.map(np.testing.assert_array_equal, finished(run(jnp.zeros(3, bool), x, added)), x)
    assert fn.runs == 1


def test_nested_lanes_run_once_if_any_of_them_asks():
    fn = Counted()

    @jax.jit
    def run(preds, x):
        inner = jax.vmap(lambda p, x: when(p, fn, x, 10 * x), (0, None))
        return jax.vmap(inner)(preds, x)

    preds = np.array([[False, True, False], [False, False, True]])
    result = finished(run(preds, jnp.array([1.0, 2.0])))
    np.testing.assert_array_equal(result, np.where(preds, [[12.0], [24.0]], [[1.0], [2.0]]))
    assert fn.runs == 1


@pytest.mark.parametrize("lanes", [0, 4])
def test_a_shared_counter_in_a_scan_runs_every_third_time(lanes):
    fn = Counted()

    def run(x):
        def body(carry, _):
            count, x = carry
            return (count + 1, when(count % 3 == 2, fn, x, jnp.float32(0.0))), None

        return jax.lax.scan(body, (jnp.int32(0), x), length=9)[0][1]

    x = jnp.ones(lanes) if lanes else jnp.float32(1.0)
    result = finished(jax.jit(jax.vmap(run) if lanes else run)(x))
    np.testing.assert_array_equal(result, 8 * np.ones(lanes or ()))
    assert fn.runs == 3


def test_random_keys_pass_through():
    def run(key, pred):
        return when(pred, lambda key: jax.random.split(key)[0], key)

    keys = jax.random.split(jax.random.key(0), 2)
    result = jax.jit(jax.vmap(run))(keys, jnp.array([True, False]))
    expected = jnp.stack([jax.random.split(keys[0])[0], keys[1]])
    assert bool((jax.random.key_data(result) == jax.random.key_data(expected)).all())
