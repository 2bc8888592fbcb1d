"""Successive halving and Hyperband: who trains when, for how long, and goes on from where."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import stopping
from metahpo.base import Evaluation, Problem
from metahpo.strategies import hyperband, successive_halving
from metahpo.strategies.along_training.hyperband import schedule

SPACE = {"x": mh.Float(0.0, 1.0), "y": mh.Float(0.0, 1.0)}
KEY = jax.random.key(3)

# Li et al. 2018, table 1, R = 81 and eta = 3: the brackets as their formula has them.
FORMULA = [
    [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    [(34, 3), (11, 9), (3, 27), (1, 81)],
    [(15, 9), (5, 27), (1, 81)],
    [(8, 27), (2, 81)],
    [(5, 81)],
]


# Training moves from ``x`` to ``y``: the first losses say little of the last ones.
PROBLEM = Problem(
    sample=lambda key: None,
    init=lambda key, h, task: h["x"] + 0.0 * h["y"],
    step=lambda key, h, task, s: s + 0.1 * (h["y"] - s),
    loss=lambda key, h, task, s: s,
)


def searched(strategy, rounds, key=KEY, problem=PROBLEM, **options):
    def run(key):
        return mh.search(
            key, problem, SPACE, strategy, rounds=rounds, steps=strategy.needs.steps, **options
        )

    return jax.tree.map(np.asarray, jax.jit(run)(key))


HALVING = successive_halving(SPACE, 27, 27)
BAND = hyperband(SPACE, 9, 9)
BOTH = pytest.mark.parametrize("name", ["halving", "band"])


@functools.cache
def twelve(name):
    """``(key) -> SearchResult``, compiled once."""
    strategy = {"halving": HALVING, "band": BAND}[name]
    return jax.jit(
        lambda key: mh.search(key, PROBLEM, SPACE, strategy, rounds=12, steps=strategy.needs.steps)
    )


@functools.cache
def twelve_rounds(name):
    return jax.tree.map(np.asarray, twelve(name)(KEY))


def test_hyperband_has_the_brackets_of_the_published_formula():
    found = [[(rung.members, rung.steps) for rung in b] for b in schedule(81, [1, 3, 9, 27, 81], 3)]
    assert found == FORMULA


@pytest.mark.parametrize(("population", "eta", "most"), [(16, 2, 4), (50, 3, 3), (64, 4, 3)])
def test_brackets_follow_the_formula_for_a_budget_of_a_larger_population(population, eta, most):
    for s, bracket in zip(
        range(most, -1, -1),
        schedule(population, [eta**i for i in range(most + 1)], eta),
        strict=True,
    ):
        exact = population / eta**most * (most + 1) / (s + 1) * eta**s
        members = int(np.ceil(exact - 1e-9))
        assert [(rung.members, rung.steps) for rung in bracket] == [
            (members // eta**i, eta ** (most - s + i)) for i in range(s + 1)
        ]
        assert members <= population


def expected_budgets(brackets):
    for bracket in brackets:
        before = 0
        for members, steps in bracket:
            yield members, steps - before
            before = steps


@pytest.mark.parametrize(
    ("name", "brackets"),
    [
        ("halving", [[(27, 1), (9, 3), (3, 9), (1, 27)]]),
        ("band", [[(9, 1), (3, 3), (1, 9)], [(5, 3), (1, 9)], [(3, 9)]]),
    ],
)
def test_rounds_grant_what_is_left_to_the_next_rung_and_brackets_come_again(name, brackets):
    rounds = list(expected_budgets(brackets))
    budget = twelve_rounds(name).history.budget
    for row, (members, granted) in zip(budget, (rounds * 3)[:12], strict=True):
        assert sorted(row) == [0] * (len(row) - members) + [granted] * members


@BOTH
def test_the_best_of_a_rung_go_on_from_themselves(name):
    h = twelve_rounds(name).history
    for t in range(11):
        active, later = h.budget[t] > 0, h.budget[t + 1] > 0
        if (h.parent[t + 1] == -1).all():  # a new bracket
            assert not np.isin(h.unit[t + 1], h.unit[t]).any()
            continue
        assert set(np.flatnonzero(later)) == set(
            np.argsort(h.loss[t], kind="stable")[: later.sum()]
        )
        assert active[later].all()
        np.testing.assert_array_equal(h.parent[t + 1][later], np.flatnonzero(later))
        np.testing.assert_array_equal(h.unit[t + 1][later], h.unit[t][later])


def test_promoted_members_have_the_state_of_an_uninterrupted_training():
    """As many updates, as ``walk`` counts them."""
    result = twelve_rounds("halving")
    h = result.history
    (winner,) = np.flatnonzero(h.budget[11])
    x, y = h.unit[8, winner]
    for _ in range(27):
        x = x + np.float32(0.1) * (y - x)
    np.testing.assert_allclose(h.loss[11, winner], x, rtol=1e-5)
    assert result.state.trainings.steps[winner] == 27


def told(strategy, losses):
    """Who trains in each round if member ``i`` has the loss ``losses[i]`` all along."""
    state, found = strategy.init(KEY), []
    ask, tell = (jax.jit(fn) for fn in strategy[1:3])
    for _ in range(len(losses)):
        proposal, state = ask(KEY, state)
        active = np.asarray(proposal.budget) > 0
        found.append(np.flatnonzero(active).tolist())
        loss = np.where(active, np.asarray(losses, np.float32), np.inf)
        evaluation = Evaluation(loss, None, proposal.budget)
        state = tell(KEY, state, proposal, evaluation)
    return found


def test_members_that_failed_are_dropped_and_ties_go_to_the_first():
    nan, inf = np.nan, np.inf
    strategy = successive_halving(SPACE, 9, 9)
    everybody = list(range(9))
    assert told(strategy, [3, 1, 1, nan, -inf, 1, 0, 1, inf])[:4] == [
        everybody,
        [1, 2, 6],
        [6],
        everybody,
    ]
    assert told(strategy, [1.0] * 9)[:3] == [everybody, [0, 1, 2], [0]]
    # Too few are left for the next rung, and then nobody.
    assert told(strategy, [nan] * 8 + [2])[:4] == [everybody, [8], [8], everybody]
    assert told(strategy, [nan] * 9)[:4] == [everybody, [], [], everybody]


def test_a_bracket_in_which_all_fail_is_survived_in_search():
    broken = PROBLEM._replace(loss=lambda key, h, task, s: jnp.where(h["x"] < 2.0, jnp.nan, s))
    result = searched(HALVING, 5, problem=broken)
    assert (result.history.budget > 0).sum(axis=1).tolist() == [27, 0, 0, 0, 27]
    assert np.isinf(result.best_loss) and result.nonfinite == 54


def test_many_seeds_in_one_program_are_the_runs_alone():
    keys = jax.random.split(KEY, 3)
    lanes = jax.jit(jax.vmap(twelve("band")))(keys)
    for i in range(3):
        alone = twelve("band")(keys[i])
        np.testing.assert_array_equal(lanes.history.budget[i], alone.history.budget)
        np.testing.assert_allclose(lanes.history.loss[i], alone.history.loss, rtol=1e-6)


@pytest.mark.slow
def test_a_run_is_ended_by_a_rule_and_goes_on():
    whole = twelve_rounds("band")
    rule = stopping.evaluations(20)
    stopped = searched(BAND, 12, stop=rule)
    evaluations = np.cumsum((whole.history.budget > 0).sum(axis=1))
    assert stopped.rounds == np.searchsorted(evaluations, 20) + 1
    run = jax.jit(
        lambda state: mh.search(
            KEY, PROBLEM, SPACE, BAND, rounds=12 - 5, steps=BAND.needs.steps, state=state
        )
    )
    rest = run(searched(BAND, 5).state)
    np.testing.assert_array_equal(rest.history.loss, whole.history.loss[5:])


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_history(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    loop = mh.run.search_loop(PROBLEM, SPACE, BAND, rounds=12, steps=BAND.needs.steps)
    options = {"chunk": 5, "directory": tmp_path, "progress": False}
    mh.run.drive(loop, KEY, on_chunk=lambda *_: True, **options)  # ends after five rounds
    result = mh.run.drive(loop, KEY, resume=True, **options)
    np.testing.assert_array_equal(result.history.loss, twelve_rounds("band").history.loss)


def test_whoever_evaluates_elsewhere_is_told_whose_training_goes_on():
    strategy = successive_halving(SPACE, 9, 9)
    tuner = mh.run.AskTell(SPACE, strategy, trainings=True, rounds=3)
    trained = {}
    while not tuner.over:
        c = tuner.ask()
        trained[c.number] = c.budget + (0 if c.parent is None else trained[c.parent])
        tuner.tell(c.number, c.hparams["x"], steps=trained[c.number])
    assert sorted(trained.values()) == [1] * 9 + [3] * 3 + [9]
    assert tuner.result().best_loss == min(tuner.result().history.loss[0])


def listening(told):
    """Random points whose ``y`` says how often they were asked for; ``told`` gets what is told."""
    inner = mh.strategies.random(SPACE, 9)

    def ask(key, asked):
        proposal, _ = inner.ask(key, ())
        return proposal._replace(unit=proposal.unit.at[:, 1].set(asked / 16)), asked + 1

    def tell(key, asked, proposal, evaluation):
        jax.debug.callback(lambda *x: told.append(x), proposal.budget, evaluation, ordered=True)
        return asked

    return inner._replace(init=lambda key: jnp.zeros(()), ask=ask, tell=tell)


def test_a_sampler_proposes_each_bracket_and_is_told_the_last_losses():
    heard = []
    h = searched(hyperband(SPACE, 9, 9, sampler=listening(heard)), 7).history
    jax.effects_barrier()
    assert (16 * h.unit[:, 0, 1]).tolist() == [0, 0, 0, 1, 1, 2, 3]
    brackets = {0: [1, 3, 9], 3: [3, 9], 5: [9]}
    for (budget, evaluation), (first, steps) in zip(heard, brackets.items(), strict=True):
        np.testing.assert_array_equal(budget > 0, h.budget[first] > 0)
        for i in range(9):
            trained = [r for r in range(len(steps)) if h.budget[first + r, i] > 0]
            expected = (
                (steps[trained[-1]], h.loss[first + trained[-1], i]) if trained else (0, np.inf)
            )
            assert (evaluation.steps[i], evaluation.loss[i]) == expected


@pytest.mark.slow
def test_a_sampler_that_shrinks_or_is_spent_leaves_slots_idle():
    sampler = mh.strategies.tpe(SPACE, 9, capacity=24)
    strategy = hyperband(SPACE, 9, 9, sampler=sampler)
    assert strategy.needs.rounds == 6  # three brackets
    result = searched(strategy, 6, stop=mh.stopping.any_of())
    assert (result.history.budget > 0).sum(1).tolist() == [9, 3, 1, 5, 1, 3]
    assert result.stop_reason == mh.StopReason.BUDGET
    few = hyperband(SPACE, 9, 9, sampler=mh.strategies.tpe(SPACE, 9, capacity=13))
    assert (searched(few, 5).history.budget > 0).sum(1).tolist() == [9, 3, 1, 4, 1]
    with pytest.raises(ValueError, match="6 rounds"):
        searched(strategy, 7)


@pytest.mark.parametrize("make", [mh.strategies.sobol, mh.strategies.shade, mh.strategies.cma_es])
def test_samplers_of_all_kinds_run(make):
    strategy = hyperband(SPACE, 9, 9, sampler=make(SPACE, 9))
    result = searched(strategy, 12)
    h = result.history
    assert np.isfinite(result.best_loss)
    starts = [t for t in range(12) if (h.parent[t] == -1).all()]
    assert starts == [0, 3, 5, 6, 9, 11]
    assert not any(np.array_equal(h.unit[a], h.unit[b]) for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize("make", [successive_halving, hyperband, mh.strategies.asha])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_steps": 10}, "max_steps=10, min_steps=1 and eta=3"),
        ({"max_steps": 12, "min_steps": 5}, "max_steps=12, min_steps=5 and eta=3"),
        ({"max_steps": 1, "min_steps": 3}, "max_steps=1, min_steps=3"),
        ({"max_steps": 0}, "max_steps must be a whole number of at least 1, got 0"),
        ({"max_steps": 9, "min_steps": 0}, "min_steps must be a whole number of at least 1, got 0"),
        ({"max_steps": 9, "eta": 1}, "eta must be a whole number of at least 2, got 1"),
        ({"max_steps": 9, "eta": 2.5}, "eta must be a whole number of at least 2, got 2.5"),
        ({"max_steps": 27}, r"rungs of \[1, 3, 9, 27\] updates .* at least 27, got 9"),
    ],
)
def test_a_range_that_makes_no_bracket_is_refused(make, options, error):
    with pytest.raises(ValueError, match=error):
        make(SPACE, 9, **options)


@pytest.mark.parametrize(
    ("sampler", "error"),
    [
        (mh.strategies.random(SPACE, 8), "sampler must have the population 9, got 8"),
        (mh.strategies.random({"z": mh.Float(0.0, 1.0)}, 9), r"same space.*\['z'\]"),
        (mh.strategies.pbt(SPACE, 9), "needs trainings"),
        (mh.strategies.hypergradient(SPACE, 9), "needs gradients"),
        (mh.strategies.random, "sampler must be a Strategy"),
    ],
)
def test_a_sampler_that_does_not_fit_is_refused(sampler, error):
    with pytest.raises(ValueError, match=error):
        hyperband(SPACE, 9, 9, sampler=sampler)


def test_a_run_of_too_few_steps_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 18, .* got 17"):
        mh.search(KEY, PROBLEM, SPACE, HALVING, rounds=1, steps=17)
