"""A training under way: cut anywhere and kept anywhere, it ends where it ends whole, to the bit."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo import inner
from metahpo.base import ANYTHING, Needs, Proposal, Strategy

HPARAMS = {"lr": jnp.array(0.03)}
STEPS = 9


def some(key, task):
    """Four of the support examples."""
    rows = jax.random.randint(key, (4,), 0, 10)
    return task._replace(support=jax.tree.map(lambda x: x[rows], task.support))


FAMILY = mh.problems.sinusoid(shots=10)
PROBLEM = mh.problems.training(FAMILY, lambda h: optax.adam(h["lr"]), minibatch=some)


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


# In a search.

SPACE, MEMBERS = {"lr": mh.Float(1e-3, 1e-1, log=True)}, 3
UNIT = jnp.linspace(0.2, 0.8, MEMBERS)[:, None]


def moves(parents, budget=mh.base.FULL_BUDGET, unit=UNIT):
    """The proposals of all rounds: nobody moves; ``parents[t]`` are the parents in round t."""
    parents = np.asarray(parents, np.int32)
    budget = np.broadcast_to(np.int32(budget), parents.shape)
    return Proposal(np.broadcast_to(unit, (*parents.shape, 1)), parents, budget)


def following(proposals, needs=ANYTHING):
    def ask(key, t):
        return jax.tree.map(lambda x: jnp.asarray(x)[t], proposals), t + 1

    return Strategy(lambda key: jnp.int32(0), ask, lambda key, t, proposal, evaluation: t, needs)


FRESH, THEMSELVES = [-1] * MEMBERS, list(range(MEMBERS))


@functools.cache
def search_program(steps, needs=ANYTHING, chunk=None):
    @jax.jit
    def run(proposals, task):
        return mh.search(
            jax.random.key(0),
            PROBLEM,
            SPACE,
            following(proposals, needs),
            rounds=len(proposals.unit),
            steps=steps,
            task=task,
            chunk=chunk,
        )

    return run


def losses(proposals, steps, task, **options):
    return np.asarray(search_program(steps, **options)(proposals, task).history.loss)


def test_members_that_go_on_from_themselves_are_whole_trainings_to_the_bit(task):
    once = losses(moves([FRESH]), 12, task)
    full = mh.base.FULL_BUDGET
    for rounds, steps, budget in ((2, 6, full), (4, 3, full), (12, 1, full), (3, 9, 4)):
        parts = losses(moves([FRESH] + [THEMSELVES] * (rounds - 1), budget), steps, task)
        np.testing.assert_array_equal(parts[-1], once[0])


def test_members_in_chunks_and_idle_rounds_go_on_as_well(task):
    once = losses(moves([FRESH]), 12, task)
    parts = losses(moves([FRESH, THEMSELVES]), 6, task, chunk=2)
    np.testing.assert_array_equal(parts[-1], once[0])

    busy = mh.base.FULL_BUDGET * np.array([[1], [0], [1]])  # the second round is idle for everybody
    parts = losses(moves([FRESH, THEMSELVES, THEMSELVES], busy), 6, task)
    assert np.isinf(parts[1]).all()
    np.testing.assert_array_equal(parts[-1], once[0])


def test_a_copy_goes_on_with_keys_of_its_own(task):
    copies = losses(moves([FRESH, [0, 0, 0]]), 6, task)
    itself = losses(moves([FRESH, THEMSELVES]), 6, task)
    assert copies[1, 0] == itself[1, 0]
    # The same state under other minibatches, at other rates besides.
    assert len(set(copies[1].tolist())) == MEMBERS
    alike = losses(moves([FRESH, [0, 0, 0]], unit=0.5), 6, task)
    assert len(set(alike[1].tolist())) == MEMBERS


def test_a_copy_is_as_old_as_what_it_copied():
    """Its next step has the number that follows: a schedule goes on."""
    counting = mh.Problem(
        sample=lambda key: None,
        init=lambda key, h, task: (jnp.int32(0), key),
        step=lambda key, h, task, state: (state[0] + 1, state[1]),
        loss=lambda key, h, task, state: state[0] * 1.0,
        describe=lambda task: jnp.zeros(0),
    )
    seen = []

    def tell(key, t, proposal, evaluation):
        jax.debug.callback(lambda steps: seen.append(steps.tolist()), evaluation.steps)
        return t

    strategy = following(moves([FRESH, [0, 0, -1], [2, 1, 0]], budget=5))._replace(tell=tell)
    mh.search(jax.random.key(0), counting, SPACE, strategy, rounds=3, steps=7)
    jax.effects_barrier()
    assert sorted(seen) == [[5, 5, 5], [10, 10, 5], [10, 15, 15]]


def test_whoever_needs_no_trainings_gets_the_same_losses(task):
    kept = losses(moves([FRESH] * 3), 6, task)
    dropped = losses(moves([FRESH] * 3), 6, task, needs=Needs(trainings=False, budgets=False))
    np.testing.assert_allclose(kept, dropped, rtol=1e-5)


# In the tuning environment.


@functools.cache
def still(segments, steps):
    """A segmented training of the environment in which nothing moves."""
    environment = mh.rl.tuning_environment(PROBLEM, SPACE, steps, segments, moves=(0.0,))

    @jax.jit
    def run(task):
        start = environment.reset(jax.random.key(3), task)

        def step(state, _):
            return environment.step(jax.random.key(9), task, state, jnp.array([0]))

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
    start, step = environment.reset(jax.random.key(3), task), jax.jit(environment.step)
    ends = []
    for offered in itertools.product((task, other), repeat=2):
        state = start
        for one in offered:
            state, _ = step(jax.random.key(0), one, state, jnp.array([2]))
        ends.append(float(state.loss))
    assert len(set(ends)) == 1
