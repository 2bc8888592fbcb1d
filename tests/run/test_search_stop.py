"""A search that stops early equals the fixed one so far, in every lane and under every drive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from copying_strategy import copying

import metahpo as mh
from metahpo import stopping
from metahpo.base import FULL_BUDGET, Problem, Proposal, StopReason, Strategy

pytestmark = pytest.mark.optimised  # what is compared to the bit

SPACE = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(-1.0, 1.0)}
ROUNDS, POPULATION = 30, 6
KEYS = jax.random.split(jax.random.key(5), 4)


def training():
    """A state of two numbers that random steps move; elementwise, so batches round alike."""
    return Problem(
        sample=lambda key: jnp.float32(0.25),
        init=lambda key, h, task: jax.random.normal(key, (2,)),
        step=lambda key, h, task, state: state * (0.9 + 0.05 * h["x"]) + task * 0.001,
        loss=lambda key, h, task, state: jnp.abs(state).max() + jnp.abs(h["y"] - task),
        describe=lambda task: jnp.zeros(0),
    )


def run(key, stop=None, make=copying, **options):
    strategy = make(SPACE, POPULATION)
    return mh.search(key, training(), SPACE, strategy, rounds=ROUNDS, steps=2, stop=stop, **options)


@pytest.fixture(scope="module")
def fixed():
    return jax.jit(jax.vmap(run))(KEYS)


@pytest.fixture(scope="module")
def target(fixed):
    """A loss that every lane reaches in another round."""
    lowest = np.minimum.accumulate(fixed.history.loss.min(axis=2), axis=1)
    value = float(np.sort(lowest[:, 12])[1])
    assert len({int((row > value).sum()) for row in lowest}) == 4
    return value


@pytest.fixture(scope="module")
def alone():
    return jax.jit(lambda key, value, *_: run(key, stopping.target(value)))


@pytest.mark.slow
def test_the_history_is_that_of_the_fixed_run_until_the_stop(fixed, target, alone):
    for lane, key in enumerate(KEYS):
        found = alone(key, target)
        losses = np.asarray(fixed.history.loss[lane])
        reached = np.flatnonzero(losses.min(axis=1) <= target)
        rounds = reached[0] + 1 if len(reached) else ROUNDS
        assert int(found.rounds) == rounds
        assert int(found.evaluations) == rounds * POPULATION
        reason = StopReason.TARGET if len(reached) else StopReason.BUDGET
        assert int(found.stop_reason) == reason
        for field in ("unit", "loss", "parent", "budget", "nonfinite"):
            ours, theirs = (getattr(x, field) for x in (found.history, fixed.history))
            np.testing.assert_array_equal(ours[:rounds], theirs[lane][:rounds])
        assert np.isinf(found.history.loss[rounds:]).all()
        assert not found.history.budget[rounds:].any()
        assert not found.history.nonfinite.any()
        assert found.best_loss == losses[:rounds].min()


def same(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def test_a_lane_that_stops_before_the_others_is_as_if_alone(target, alone):
    together = jax.jit(jax.vmap(lambda key: run(key, stopping.target(target))))(KEYS)
    assert len(set(together.rounds.tolist())) == 4
    for lane, key in enumerate(KEYS):
        assert same(jax.tree.map(lambda x, i=lane: x[i], together), alone(key, target))


@pytest.mark.slow
def test_lanes_of_lanes_are_frozen_too(target, alone):
    values = jnp.array([target, 2 * target])
    nested = jax.vmap(jax.vmap(alone, (None, 0)), (0, None))(KEYS[:2], values)
    for i, j in np.ndindex(2, 2):
        one = jax.tree.map(lambda x, at=(i, j): x[at], nested)
        assert same(one, alone(KEYS[i], values[j]))


def test_changed_numbers_and_tasks_trace_nothing_again():
    traces = []

    def loss(key, h, task, state):
        traces.append(None)
        return training().loss(key, h, task, state)

    @jax.jit
    def tune(keys, tasks, target, number):
        def one(key, task):
            stop = stopping.when(target=target, evaluations=number, stagnation=number)
            strategy = mh.strategies.differential_evolution(SPACE, POPULATION)
            problem = training()._replace(loss=loss)
            options = {"rounds": 5, "steps": 2, "task": task, "stop": stop}
            return mh.search(key, problem, SPACE, strategy, **options).rounds

        return jax.vmap(jax.vmap(one, (0, None)), (None, 0))(keys, tasks)

    tasks = jnp.array([0.1, 0.2, 0.3])
    first = tune(KEYS, tasks, 0.0, 1000)
    count = len(traces)
    second = tune(KEYS[::-1], tasks + 1, 0.0, 2 * POPULATION)
    assert len(traces) == count > 0
    assert (first == 5).all() and (second == 2).all() and first.shape == (3, 4)


def counting(stop_after=3, parents=False):
    """A strategy that says itself when it is done."""

    def ask(key, state):
        unit = jax.random.uniform(key, (POPULATION, 2))
        parent = jnp.where(parents & (state > 0), jnp.arange(POPULATION), -1)
        return Proposal(unit, parent, jnp.full(POPULATION, FULL_BUDGET)), state

    def reason(state):
        return jnp.where(state >= stop_after, StopReason.CONDITION, StopReason.RUNNING)

    return Strategy(
        lambda key: jnp.zeros((), jnp.int32), ask, lambda key, s, p, e: s + 1, stop=reason
    )


@pytest.mark.parametrize(
    ("stop", "rounds", "reason"),
    [
        (None, ROUNDS, StopReason.BUDGET),
        (stopping.any_of(), 3, StopReason.CONDITION),
        (stopping.evaluations(2 * POPULATION), 2, StopReason.BUDGET),
        (stopping.evaluations(3 * POPULATION), 3, StopReason.BUDGET),
    ],
)
def test_a_strategys_own_reason_counts_when_stopping_is_asked_for(stop, rounds, reason):
    found = run(jax.random.key(0), stop, lambda *_: counting())
    assert (int(found.rounds), int(found.stop_reason)) == (rounds, reason)


def test_a_drive_stops_saves_and_resumes_to_the_same_result(tmp_path, target, alone):
    pytest.importorskip("orbax.checkpoint")
    strategy = copying(SPACE, POPULATION)
    loop = mh.run.search_loop(
        training(), SPACE, strategy, rounds=ROUNDS, steps=2, stop=stopping.target(target)
    )
    key = next(key for key in KEYS if 4 < int(alone(key, target).rounds) < ROUNDS)
    expected = alone(key, target)
    rounds = int(expected.rounds)
    seen = []

    def drive(**options):
        options = {"progress": False, "on_chunk": lambda done, _: seen.append(done)} | options
        return mh.run.drive(loop, key, chunk=4, directory=tmp_path, **options)

    class Break(Exception):
        pass

    def interrupt(done, history):
        raise Break

    with pytest.raises(Break):
        drive(on_chunk=interrupt)
    assert same(drive(resume=True), expected)
    assert seen == [*range(8, rounds, 4), rounds]
    assert mh.run.checkpoint.rounds_done(tmp_path) == rounds
    seen.clear()
    assert same(drive(resume=True), expected)  # what has stopped stays stopped
    assert seen == []


def test_progress_ends_with_a_run_that_stops(capsys):
    loop = mh.run.search_loop(
        training(), SPACE, counting(), rounds=ROUNDS, steps=1, stop=stopping.any_of()
    )
    mh.run.drive(loop, jax.random.key(0), chunk=100)
    assert "run: 3/30 rounds" in capsys.readouterr().err
