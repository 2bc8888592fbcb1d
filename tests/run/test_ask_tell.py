"""Asked and told from a loop of one's own: the candidates of search, in any order, saved."""

import concurrent.futures
import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from walking import SPACE, as_bytes, loss, run, walker

import metahpo as mh
from metahpo import stopping, strategies
from metahpo.base import FULL_BUDGET, Needs, Proposal, StopReason, Strategy
from metahpo.run import AskTell, WaitingError
from metahpo.staged import StagedAsk

LINE = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(-1.0, 1.0)}
PATIENT = {  # those that wait for no order of tells
    "random": lambda: strategies.random(LINE, 5),
    "sobol": lambda: strategies.sobol(LINE, 5),
    "grid": lambda: strategies.grid(LINE, 5, points=4),
    "differential_evolution": lambda: strategies.differential_evolution(LINE, 5),
    "jade": lambda: strategies.jade(LINE, 5),
    "shade": lambda: strategies.shade(LINE, 5),
}


def bowl(h):
    return (h["x"] - 0.3) ** 2 + (h["y"] + 0.2) ** 2


def loop(tuner, fn=loss):
    """The shortest loop that there is."""
    while not tuner.over:
        candidate = tuner.ask()
        tuner.tell(candidate.number, fn(candidate.hparams))
    return tuner.result()


def test_a_stage_of_a_strategy_is_compiled_when_the_run_comes_to_it():
    plain, traced = strategies.random(LINE, 2), []

    def marked(name, key, state):
        traced.append(name)
        return plain.ask(key, ())[0], state + 1

    stages = tuple(functools.partial(marked, name) for name in ("few", "many"))
    ask = StagedAsk(functools.partial(marked, "any"), lambda state: state // 2, stages)
    staged = plain._replace(init=lambda key: jnp.zeros((), jnp.int32), ask=ask)
    tuner = AskTell(LINE, staged._replace(tell=lambda key, state, *_: state), rounds=4)
    seen = []
    while not tuner.over:
        candidate = tuner.ask()
        seen.append((candidate.hparams, list(traced)))
        tuner.tell(candidate.number, 0.0)
    assert [names for _, names in seen] == [["few"]] * 4 + [["few", "many"]] * 4
    alike = AskTell(LINE, plain, rounds=4)
    assert [h for h, _ in seen] == [alike.ask().hparams for _ in seen]


def test_a_loop_of_ones_own_is_minimize():
    assert as_bytes(loop(AskTell(SPACE, walker(), rounds=5))) == as_bytes(run())
    other = loop(AskTell(SPACE, walker(), rounds=5, key=jax.random.key(3)))
    assert as_bytes(other) == as_bytes(run(key=jax.random.key(3)))


@pytest.mark.parametrize("order", ["as asked", "reversed", "shuffled"])
def test_losses_of_a_round_may_come_in_any_order(order):
    tuner = AskTell(SPACE, walker(), rounds=5)
    while not tuner.over:
        asked = [tuner.ask() for _ in range(4)]
        assert not tuner.ready and tuner.pending == [c.number for c in asked]
        if order == "reversed":
            asked = asked[::-1]
        if order == "shuffled":
            random.Random(asked[0].number).shuffle(asked)
        for candidate in asked:
            tuner.tell(candidate.number, loss(candidate.hparams))
        assert tuner.pending == []
    assert as_bytes(tuner.result()) == as_bytes(run())


def test_a_strategy_that_must_wait_says_for_whom():
    tuner = AskTell(SPACE, walker(), rounds=2)
    for _ in range(4):
        tuner.ask()
    for number in (0, 3):
        tuner.tell(number, 1.0)
    with pytest.raises(WaitingError, match=r"candidates \[1, 2\] must come first"):
        tuner.ask()
    tuner.tell(1, 0.5)
    tuner.tell(2, 0.25)
    assert tuner.ready and tuner.ask().number == 4 and tuner.lowest == 0.25


@pytest.mark.parametrize("name", PATIENT)
def test_whoever_needs_no_order_goes_on_with_what_is_known(name):
    strategy = PATIENT[name]()
    assert not strategy.needs.order
    tuner, waiting = AskTell(LINE, strategy), []
    for _ in range(60):  # a worker is always busy with three, and ends them out of order
        waiting.append(tuner.ask())
        if len(waiting) == 3:
            candidate = waiting.pop(len(tuner.pending) % 2 + 1)
            tuner.tell(candidate.number, bowl(candidate.hparams))
    assert sorted(tuner.pending) == sorted(c.number for c in waiting)
    result = tuner.result()
    assert result.evaluations == 60 - len(waiting)
    losses = [
        bowl({"x": 2 * u[0] - 1, "y": 2 * u[1] - 1}) for u in result.history.unit.reshape(-1, 2)
    ]
    told = result.history.budget.ravel() > 0
    np.testing.assert_allclose(result.history.loss.ravel()[told], np.array(losses)[told], atol=1e-6)
    assert np.isinf(result.history.loss.ravel()[~told]).all()


@pytest.mark.parametrize("name", PATIENT)
def test_told_in_order_they_propose_what_they_propose_in_search(name):
    strategy = PATIENT[name]()
    found = loop(AskTell(LINE, strategy, rounds=8), bowl)
    expected = mh.minimize(bowl, LINE, strategy, rounds=8, progress=False)
    assert as_bytes(found) == as_bytes(expected)


def test_differential_evolution_finds_the_optimum_though_losses_come_late():
    tuner = AskTell(LINE, strategies.differential_evolution(LINE, 8), rounds=100)
    waiting = []
    rng = random.Random(0)
    while not tuner.over:
        while tuner.ready and len(waiting) < 6:
            waiting.append(tuner.ask())
        candidate = waiting.pop(rng.randrange(len(waiting)))
        tuner.tell(candidate.number, bowl(candidate.hparams))
    result = tuner.result()
    assert result.evaluations == 800 and result.best_loss < 1e-6


@pytest.mark.slow
def test_every_strategy_that_claims_to_need_no_order_takes_partial_tells():
    """Members told one by one count once, and those that are pending are left alone."""
    for make in PATIENT.values():
        strategy = make()
        state = strategy.init(jax.random.key(0))
        proposal, state = strategy.ask(jax.random.key(1), state)
        all_at_once = mh.Evaluation(jnp.arange(5.0), None, jnp.ones(5, jnp.int32))
        whole = strategy.tell(jax.random.key(2), state, proposal, all_at_once)
        for members in ([0], [1, 2], [4, 3]):
            there = jnp.isin(jnp.arange(5), jnp.array(members))
            part = mh.Evaluation(
                jnp.where(there, jnp.arange(5.0), jnp.inf), None, there.astype(jnp.int32)
            )
            state = strategy.tell(jax.random.key(2), state, proposal, part)
        if hasattr(state, "unit"):
            np.testing.assert_array_equal(state.unit, whole.unit)
            np.testing.assert_array_equal(state.loss, whole.loss)


def test_workers_of_a_pool_run_side_by_side():
    tuner = AskTell(LINE, strategies.random(LINE, 4), rounds=5)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        running = {}
        while not tuner.over:
            while tuner.ready and len(running) < 3:
                candidate = tuner.ask()
                running[pool.submit(bowl, candidate.hparams)] = candidate.number
            done, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
            for future in done:
                tuner.tell(running.pop(future), future.result())
    expected = mh.minimize(bowl, LINE, strategies.random(LINE, 4), rounds=5, progress=False)
    assert as_bytes(tuner.result()) == as_bytes(expected)


# Budgets and trainings.


def halving():
    """Four candidates, of which the best two go on for longer; told how long they trained."""

    def init(key):
        return jnp.int32(0), jnp.zeros(4, jnp.int32), jnp.arange(4.0)

    def ask(key, state):
        t, order, _ = state
        unit = jnp.linspace(0.1, 0.9, 4)[:, None]
        first = Proposal(unit, jnp.full(4, -1, jnp.int32), jnp.full(4, 3, jnp.int32))
        goes_on = jnp.where(jnp.arange(4) < 2, FULL_BUDGET, 0).astype(jnp.int32)
        second = Proposal(unit[order], order, goes_on)
        return jax.tree.map(lambda a, b: jnp.where(t == 0, a, b), first, second), (
            t + 1,
            *state[1:],
        )

    def tell(key, state, proposal, evaluation):
        return state[0], jnp.argsort(evaluation.loss).astype(jnp.int32), evaluation.steps * 1.0

    return Strategy(init, ask, tell)


def test_candidates_name_their_budget_and_the_training_they_go_on_from():
    tuner = AskTell({"x": mh.Float(0.0, 1.0)}, halving(), rounds=3, trainings=True)
    asked = [tuner.ask() for _ in range(4)]
    assert [(c.number, c.budget, c.parent) for c in asked] == [(i, 3, None) for i in range(4)]
    for candidate, value in zip(asked, (0.4, 0.1, 0.3, 0.2), strict=True):
        tuner.tell(candidate.number, value, steps=3)
    promoted = [tuner.ask(), tuner.ask()]
    assert [(c.number, c.budget, c.parent) for c in promoted] == [(4, None, 1), (5, None, 3)]
    for candidate in promoted:
        tuner.tell(candidate.number, 0.05, steps=9)
    assert tuner.result().history.budget.tolist() == [[3, 3, 3, 3], [9, 9, 0, 0], [0, 0, 0, 0]]
    again = tuner.ask()
    assert again.parent == 4  # the first of the two that were told alike
    np.testing.assert_array_equal(tuner.result().strategy[2], [9.0, 9.0, 0.0, 0.0])


def test_whoever_cannot_go_on_from_trainings_is_not_asked_to():
    with pytest.raises(ValueError, match="no training state to go on from.* parent 2"):
        AskTell(SPACE, walker(parent=2), rounds=2).ask()


def test_a_round_that_is_idle_as_a_whole_is_told_and_passed():
    plain = walker()

    def ask(key, state):
        proposal, state = plain.ask(key, state)
        count = state[0][0]  # any number of the state decides
        idle = jnp.where(jnp.isfinite(state[1]) & (count >= 0), 0, FULL_BUDGET)
        return proposal._replace(budget=jnp.full(4, idle, jnp.int32)), state

    tuner = AskTell(SPACE, plain._replace(ask=ask), rounds=3)
    for candidate in [tuner.ask() for _ in range(4)]:
        tuner.tell(candidate.number, loss(candidate.hparams))
    with pytest.raises(RuntimeError, match="over after 3 rounds"):
        tuner.ask()
    assert tuner.over and tuner.result().evaluations == 4


# Endings and failures.


def test_a_rule_ends_the_run_as_in_minimize():
    rule = stopping.when(evaluations=9)
    tuner = AskTell(SPACE, walker(), rounds=5, stop=rule)
    result = loop(tuner)
    assert as_bytes(result) == as_bytes(run(stop=rule))
    assert (result.rounds, tuner.reason) == (3, StopReason.BUDGET)


def test_partial_tells_count_every_evaluation_once():
    tuner = AskTell(LINE, strategies.random(LINE, 4), stop=stopping.when(evaluations=10))
    waiting = [tuner.ask()]
    while not tuner.over:
        waiting.append(tuner.ask())  # always one pending
        candidate = waiting.pop(0)
        tuner.tell(candidate.number, bowl(candidate.hparams))
    assert 10 <= tuner.evaluations <= 13


def test_an_exception_is_the_worst_loss_and_kept_with_its_candidate():
    tuner = AskTell(SPACE, walker(), rounds=1)
    asked = [tuner.ask() for _ in range(4)]
    tuner.tell(0, 0.5)
    tuner.tell(2, OverflowError("too many"))
    tuner.tell(1, float("nan"))
    tuner.tell(3, 0.25)
    result = tuner.result()
    np.testing.assert_array_equal(result.history.loss, [[0.5, np.inf, np.inf, 0.25]])
    np.testing.assert_array_equal(result.history.metrics["failed"], [[0, 0, 1, 0]])
    assert result.nonfinite == 2 and result.best_hparams == asked[3].hparams
    (failure,) = result.failures
    assert failure == (0, 2, asked[2].hparams, "OverflowError('too many')")


@pytest.mark.parametrize(
    ("tell", "message"),
    [
        ((9, 1.0), "candidate 9 was not asked for"),
        ((1, 1.0), "candidate 1 was not asked for"),
        ((-1, 1.0), "number must be a whole number of at least 0, got -1"),
        ((0, "low"), "must return a real scalar, got 'low'"),
        ((0, np.ones(2)), "must return a real scalar"),
        ((0, 1.0, 0), "steps must be a whole number of at least 1, got 0"),
    ],
)
def test_wrong_tells_are_refused_and_change_nothing(tell, message):
    tuner = AskTell(SPACE, walker(), rounds=2)
    tuner.ask()
    number, value, *steps = tell
    with pytest.raises(ValueError, match=message):
        tuner.tell(number, value, **({"steps": steps[0]} if steps else {}))
    tuner.tell(0, 1.0)
    with pytest.raises(ValueError, match="candidate 0 has been told already"):
        tuner.tell(0, 1.0)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="before the first candidate"):
        AskTell(SPACE, walker()).result()
    with pytest.raises(ValueError, match="rounds must be a whole number of at least 1, got 0"):
        AskTell(SPACE, walker(), rounds=0)
    with pytest.raises(ValueError, match="needs gradients"):
        AskTell(SPACE, walker()._replace(needs=Needs(gradients=True)))


# Saved and restored.


@pytest.mark.parametrize("at", [1, 3, 4, 11, 19])
def test_a_restored_tuner_ends_as_the_one_that_was_never_saved(tmp_path, at):
    tuner = AskTell(SPACE, walker(), rounds=5)
    for _ in range(at):
        candidate = tuner.ask()
        tuner.tell(candidate.number, loss(candidate.hparams))
    tuner.save(tmp_path)
    restored = AskTell(SPACE, walker(), rounds=5)
    restored.restore(tmp_path)
    assert restored.evaluations == at
    assert as_bytes(loop(restored)) == as_bytes(run())


def test_pending_candidates_are_asked_for_again_also_after_a_second_restore(tmp_path):
    strategy = strategies.differential_evolution(LINE, 4)

    def crowd(tuner, turns):
        """Two at work; the later one of them ends first."""
        waiting = [tuner.ask(), tuner.ask()]
        for _ in range(turns):
            candidate = waiting.pop()
            tuner.tell(candidate.number, bowl(candidate.hparams))
            waiting.append(tuner.ask())
        return waiting

    tuner = AskTell(LINE, strategy)
    waiting = crowd(tuner, 13)
    tuner.save(tmp_path)
    for _ in range(2):  # the second time from what the first one saved
        restored = AskTell(LINE, strategy)
        restored.restore(tmp_path)
        assert restored.pending == sorted(c.number for c in waiting)
        first, second = restored.ask(), restored.ask()
        assert sorted([first, second], key=lambda c: c.number) == sorted(
            waiting, key=lambda c: c.number
        )
        restored.save(tmp_path)
    for candidate in waiting:
        restored.tell(candidate.number, bowl(candidate.hparams))
        tuner.tell(candidate.number, bowl(candidate.hparams))
    for _ in range(9):
        assert tuner.ask() == restored.ask()


def test_failures_and_steps_survive(tmp_path):
    tuner = AskTell(SPACE, walker(), rounds=2)
    for number in range(3):
        tuner.ask()
        tuner.tell(number, ValueError("bad") if number == 1 else 1.0, steps=number + 1)
    tuner.save(tmp_path, about="mine")
    restored = AskTell(SPACE, walker(), rounds=2)
    restored.restore(tmp_path, about="mine")
    assert restored.result().failures == tuner.result().failures
    np.testing.assert_array_equal(restored.result().history.budget[0], [1, 2, 3, 0])
    with pytest.raises(ValueError, match="of another run.* mine.* yours"):
        AskTell(SPACE, walker(), rounds=2).restore(tmp_path, about="yours")
    with pytest.raises(ValueError, match="was asked for candidates cannot be restored"):
        tuner.restore(tmp_path)


def test_a_log_that_does_not_lead_to_the_same_candidates_is_refused(tmp_path):
    tuner = AskTell(SPACE, walker(), rounds=5)
    for _ in range(6):
        candidate = tuner.ask()
        tuner.tell(candidate.number, loss(candidate.hparams))
    tuner.save(tmp_path)
    plain = walker()

    def ask(key, state):
        proposal, state = plain.ask(key, state)
        return proposal._replace(unit=proposal.unit * 0.5), state

    with pytest.raises(ValueError, match="does not lead to the same candidate 0 again"):
        AskTell(SPACE, plain._replace(ask=ask), rounds=5).restore(tmp_path)


def test_an_empty_folder_begins_at_the_beginning(tmp_path):
    tuner = AskTell(SPACE, walker(), rounds=5)
    tuner.restore(tmp_path)
    assert as_bytes(loop(tuner)) == as_bytes(run())
