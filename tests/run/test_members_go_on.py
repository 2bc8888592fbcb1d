"""Members of a search that go on from themselves or others are whole trainings, to the bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from minibatch_sinusoid import FAMILY, PROBLEM

import metahpo as mh
from metahpo.base import ANYTHING, Needs, Proposal, Strategy

pytestmark = pytest.mark.optimised  # what is compared to the bit

SPACE, MEMBERS = {"lr": mh.Float(1e-3, 1e-1, log=True)}, 3
UNIT = jnp.linspace(0.2, 0.8, MEMBERS)[:, None]


@pytest.fixture(scope="module")
def task():
    return FAMILY.sample(jax.random.key(1))


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


@pytest.mark.slow
def test_members_that_go_on_from_themselves_are_whole_trainings_to_the_bit(task):
    once = losses(moves([FRESH]), 12, task)
    full = mh.base.FULL_BUDGET
    for rounds, steps, budget in ((2, 6, full), (4, 3, full), (12, 1, full), (3, 9, 4)):
        parts = losses(moves([FRESH] + [THEMSELVES] * (rounds - 1), budget), steps, task)
        np.testing.assert_array_equal(parts[-1], once[0])


@pytest.mark.slow
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
