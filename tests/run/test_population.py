"""Idle slots cost and count nothing, and chunks change nothing but the memory."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from copying_strategy import copying

import metahpo as mh
from metahpo import stopping
from metahpo.base import FULL_BUDGET, Problem, Proposal, StopReason, Strategy

SPACE = {"x": mh.Float(0.0, 1.0)}
KEY = jax.random.key(2)


def scripted(parents, budgets, reasons=None):
    """Rounds of given parents and budgets; member ``i`` always proposes ``(i + 1) / 16``."""
    parents, budgets = jnp.asarray(parents), jnp.asarray(budgets)
    unit = (jnp.arange(parents.shape[1]) + 1.0)[:, None] / 16

    def ask(key, state):
        return Proposal(unit, parents[state], budgets[state]), state

    def tell(key, state, proposal, evaluation):
        return state + 1

    return Strategy(lambda key: jnp.zeros((), jnp.int32), ask, tell)


def adding(seen=None):
    """Training adds ``x`` in every step; ``seen`` counts how often what was done to ``16 x``."""

    def note(what, x):
        if seen is not None:
            jax.debug.callback(lambda n: seen.update([(what, round(16 * float(n)))]), x)

    def init(key, h, task):
        note("init", h["x"])
        return jnp.zeros(()) + 0.0 * h["x"]

    def step(key, h, task, state):
        note("step", h["x"])
        return state + h["x"]

    return Problem(
        lambda key: None, init, step, lambda key, h, task, s: s, lambda task: jnp.zeros(0)
    )


def run(strategy, problem=None, rounds=1, steps=1, **options):
    problem = adding() if problem is None else problem
    return jax.jit(
        lambda key: mh.search(key, problem, SPACE, strategy, rounds=rounds, steps=steps, **options)
    )(KEY)


def test_an_idle_slot_is_no_evaluation_and_keeps_its_state():
    parents = [[-1, -1, -1], [-1, 1, 0], [0, 1, 2]]
    budgets = [[2, 2, 2], [0, 0, 0], [2, 0, 2]]
    result = run(scripted(parents, budgets), rounds=3, steps=2)
    inf = np.inf
    # Member 2 becomes a copy of member 0 while it is idle: 2/16, and then adds 2 * 3/16.
    np.testing.assert_allclose(
        16 * result.history.loss, [[2, 4, 6], [inf, inf, inf], [2 + 2, inf, 2 + 6]]
    )
    assert (int(result.evaluations), int(result.nonfinite)) == (5, 0)
    np.testing.assert_array_equal(result.history.budget, budgets)
    assert not result.history.nonfinite.any()
    assert int(result.rounds) == 3


def test_an_idle_slot_whose_loss_would_not_be_finite_is_not_counted():
    problem = mh.problems.function(lambda h: jnp.where(h["x"] < 0.1, jnp.nan, h["x"]))
    found = run(scripted([[-1, -1, -1]], [[0, 1, 0]]), problem)
    np.testing.assert_array_equal(found.history.nonfinite, [[False, False, False]])
    found = run(scripted([[-1, -1, -1]], [[1, 1, 0]]), problem)
    np.testing.assert_array_equal(found.history.nonfinite, [[True, False, False]])
    np.testing.assert_allclose(found.history.loss, [[np.inf, 0.125, np.inf]])


def test_gradients_and_metrics_of_idle_slots_are_zero():
    problem = mh.problems.function(lambda h: h["x"] ** 2)
    strategy = scripted([[-1, -1]], [[1, 0]])._replace(needs=mh.Needs(gradients=True))
    found = run(strategy, problem, metrics=lambda key, h, task, state: h["x"])
    np.testing.assert_allclose(found.history.grad, [[[0.125], [0.0]]])
    np.testing.assert_allclose(found.history.metrics, [[1 / 16, 0]])


def test_updates_end_with_the_largest_budget():
    seen = collections.Counter()
    run(scripted([[-1, -1, -1]], [[1, 3, 0]]), adding(seen), steps=100)
    jax.effects_barrier()
    assert {n: seen["step", n] for n in (1, 2, 3)} == dict.fromkeys((1, 2, 3), 3)


def trials(population, sometimes=True):
    """``copying`` whose members rest now and then, and train for budgets of their own."""
    plain = copying(SPACE, population)

    def ask(key, state):
        proposal, state = plain.ask(key, state)
        budget = jax.random.randint(key, (population,), 0, 4)
        return proposal._replace(budget=budget), state

    return plain._replace(ask=ask)


@pytest.mark.parametrize(
    ("strategy", "chunks"), [(trials(10), (4, 5)), (mh.strategies.random(SPACE, 10), (1, 100))]
)
def test_chunks_change_nothing(strategy, chunks):
    options = {
        "problem": adding()._replace(init=lambda key, h, task: jax.random.normal(key)),
        "rounds": 5,
        "steps": 3,
        "metrics": lambda key, h, task, state: {"double": 2 * state},
    }
    whole = jax.tree.leaves(run(strategy, **options))
    for chunk in chunks:
        chunked = jax.tree.leaves(run(strategy, chunk=chunk, **options))
        for one, other in zip(whole, chunked, strict=True):
            np.testing.assert_array_equal(one, other)


def test_chunks_change_no_gradients():
    problem = mh.problems.function(lambda h: (h["x"] - 0.3) ** 2)
    strategy = mh.strategies.hypergradient(SPACE, 5)
    whole, chunked = (run(strategy, problem, rounds=4, chunk=chunk) for chunk in (None, 2))
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(chunked), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_chunk_of_idle_members_is_not_trained():
    seen = collections.Counter()
    budgets = [[1, 0, 0, 0, 0, 0, 0, 1], [0] * 8, [0, 0, 1, 0, 0, 0, 0, 0]]
    strategy = scripted(np.full((3, 8), -1), budgets)
    run(strategy, adding(seen), rounds=3, chunk=2)
    jax.effects_barrier()
    started = {n: count for (what, n), count in seen.items() if what == "init"}
    assert started == {1: 1, 2: 1, 7: 1, 8: 1, 3: 1, 4: 1}


def test_a_program_of_many_lanes_trains_no_more_chunks_than_its_longest_lane():
    seen = collections.Counter()
    parents, budgets = np.full((6, 4), -1), np.full((6, 4), FULL_BUDGET)

    def one(key, number):
        return mh.search(
            key,
            adding(seen),
            SPACE,
            scripted(parents, budgets),
            rounds=6,
            steps=1,
            stop=stopping.evaluations(number),
            chunk=2,
        )

    found = jax.jit(jax.vmap(one))(jax.random.split(KEY, 2), jnp.array([4, 12]))
    jax.effects_barrier()
    np.testing.assert_array_equal(found.rounds, [1, 3])
    np.testing.assert_array_equal(found.evaluations, [4, 12])
    assert set(found.stop_reason.tolist()) == {StopReason.BUDGET}
    # Four members in three rounds (their points are the same in both lanes), and nothing after.
    assert sum(count for (what, _), count in seen.items() if what == "init") == 4 * 3


def test_what_is_constant_before_compilation_costs_no_states():
    loops = [
        mh.run.search_loop(adding(), SPACE, make(SPACE, 4), rounds=1, steps=1)
        for make in (mh.strategies.random, copying)
    ]
    carries = [jax.eval_shape(loop.init, KEY) for loop in loops]
    assert [jax.tree.leaves(carry.trainings) for carry in carries][0] == []
    assert carries[1].trainings.state.shape == (4,)


@pytest.mark.parametrize("chunk", [0, -1, 2.5])
def test_chunk_must_be_positive(chunk):
    with pytest.raises(ValueError, match=f"chunk .* at least 1, got {chunk}"):
        run(mh.strategies.random(SPACE, 4), chunk=chunk)
