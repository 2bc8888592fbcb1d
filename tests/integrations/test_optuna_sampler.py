"""A strategy as a sampler of Optuna: what it proposes, and what it makes of the trials."""

import copy
import functools
import pickle
import statistics
import time

import jax
import pytest

optuna = pytest.importorskip("optuna")

from studies import (  # noqa: E402
    MAKE,
    SPACE,
    STRATEGIES,
    candidates,
    loss,
    make,
    objective,
    params,
    suggested,
)

import metahpo as mh  # noqa: E402
from metahpo.integrations.optuna import Sampler, notes, replay  # noqa: E402

TrialState = optuna.trial.TrialState


def minimized(name, rounds, seed=3, fn=loss):
    strategy = STRATEGIES[name](SPACE)
    asked = []
    mh.minimize(
        lambda h: asked.append(h) or fn(h),
        SPACE,
        strategy,
        rounds=rounds,
        seed=seed,
        progress=False,
    )
    return asked


# What it proposes.


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_study_with_one_worker_proposes_what_minimize_does(name):
    study = make(name)
    study.optimize(objective, n_trials=25)
    assert candidates(study) == [-1, *range(24)]  # the first trial says what the space is
    for found, expected in zip(params(study)[1:], minimized(name, 4), strict=True):
        assert found == pytest.approx(expected)


def test_a_study_that_maximises_sees_negated_values():
    up, down = make(direction="maximize"), make()
    up.optimize(lambda trial: -objective(trial), n_trials=20)
    down.optimize(objective, n_trials=20)
    assert params(up) == params(down)


def test_a_strategy_beats_random_search():
    study, other = make(), make("sobol")
    study.optimize(objective, n_trials=150)
    other.optimize(objective, n_trials=150)
    assert study.best_value < 0.5 * other.best_value


def branch(trial):
    x = trial.suggest_float("x", -1.0, 1.0)
    if x > 0:
        return x + trial.suggest_float("above", 0.0, 1.0) + trial.suggest_int("n", 0, 9, step=3)
    return trial.suggest_float("below", 1e-3, 1.0, log=True) - x


def test_parameters_of_a_branch_are_drawn_independently_and_reproducibly():
    first, second, other = make(), make(), make(seed=4)
    for study in (first, second, other):
        study.optimize(branch, n_trials=30)
    assert params(first) == params(second) != params(other)
    above = [trial.params["above"] for trial in first.trials if "above" in trial.params]
    assert len(above) > 3 and len(set(above)) == len(above)
    assert candidates(first)[-1] > 15  # x has a candidate in every trial, once it is alone


def test_independent_values_depend_on_seed_number_and_name_alone():
    def draw(seed, number, name):
        study = make(seed=seed)
        trial = optuna.trial.create_trial(value=0.0)
        trial.number = number
        dist = optuna.distributions.FloatDistribution(0.0, 1.0)
        return study.sampler.sample_independent(study, trial, name, dist)

    assert draw(1, 2, "x") == draw(1, 2, "x")
    assert len({draw(1, 2, "x"), draw(0, 2, "x"), draw(1, 3, "x"), draw(1, 2, "y")}) == 4


def test_a_parameter_that_changes_begins_a_new_run():
    def growing(trial):
        high = 1.0 if trial.number < 10 else 2.0
        return trial.suggest_float("x", 0.0, high) + trial.suggest_float("y", 0.0, 1.0)

    study = make()
    study.optimize(growing, n_trials=20)
    found = candidates(study)
    assert found[:11] == [-1, *range(10)]
    assert found[11:] == [*range(9)]  # y alone
    assert all(0 <= trial.params["x"] <= 2 for trial in study.trials)


def test_a_study_without_parameters_is_left_alone():
    study = make()
    study.optimize(lambda trial: trial.suggest_int("n", 3, 3), n_trials=4)
    assert study.best_value == 3 and candidates(study) == [-1] * 4


# What it makes of trials that end otherwise.


def test_a_failed_candidate_is_tried_once_more_and_then_infinite():
    def failing(trial):
        h = suggested(trial)
        if trial.number in (3, 5, 6):
            raise OSError("broken")
        return loss(h)

    study = make("differential_evolution")
    study.optimize(failing, n_trials=15, catch=(OSError,))
    # Candidate 2 fails once and 3 twice.
    assert candidates(study) == [-1, 0, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    worst = params(study)[5]
    expected = minimized(
        "differential_evolution",
        2,
        fn=lambda h: float("inf") if h == pytest.approx(worst) else loss(h),
    )
    found = [p for i, p in enumerate(params(study)) if i not in (0, 3, 5)]
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b)


def test_a_pruned_trial_counts_with_its_last_value_or_as_infinite():
    def pruning(trial):
        h = suggested(trial)
        if trial.number % 3 == 0 and trial.number:
            trial.report(99.0, 1)
            trial.report(loss(h), 2)
            raise optuna.TrialPruned
        if trial.number == 4:
            raise optuna.TrialPruned
        return loss(h)

    study = make()
    study.optimize(pruning, n_trials=13)
    infinite = params(study)[4]
    expected = minimized(
        "cma_es", 2, fn=lambda h: float("inf") if h == pytest.approx(infinite) else loss(h)
    )
    assert candidates(study) == [-1, *range(12)]
    for found, wanted in zip(params(study)[1:], expected, strict=True):
        assert found == pytest.approx(wanted)


def test_trials_of_others_are_no_harm():
    plain, mixed = make(), make()
    plain.optimize(objective, n_trials=20)
    mixed.optimize(objective, n_trials=5)
    mixed.enqueue_trial({"rate": 0.5, "kind": "relu"})  # the rest of it is drawn
    mixed.enqueue_trial(params(plain)[2])
    mixed.optimize(objective, n_trials=4)
    own = mixed.sampler
    mixed.sampler = optuna.samplers.RandomSampler(seed=0)
    mixed.optimize(objective, n_trials=3)
    mixed.add_trial(
        optuna.trial.create_trial(
            value=-9.0, params=params(plain)[1], distributions=plain.trials[1].distributions
        )
    )
    mixed.sampler = own
    mixed.optimize(objective, n_trials=12)
    found = candidates(mixed)
    assert [i for i, one in enumerate(found) if one < 0] == [0, 5, 6, 9, 10, 11, 12]
    assert mixed.trials[5].params["rate"] == 0.5
    by_candidate = [p for p, one in zip(params(mixed), found, strict=True) if one >= 0]
    assert by_candidate == params(plain)[1:19]


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (lambda space: mh.strategies.hypergradient(space, 4), "needs gradients"),
        (lambda space: "cma_es", "strategy must be"),
    ],
)
def test_a_strategy_that_cannot_be_told_values_alone_is_refused(strategy, message):
    study = optuna.create_study(sampler=Sampler(strategy))
    with pytest.raises(ValueError, match=message):
        study.optimize(objective, n_trials=2)


def test_a_study_of_two_objectives_is_refused_by_name():
    study = make(directions=["minimize", "maximize"])
    with pytest.raises(ValueError, match="must have one objective, 's' has 2"):
        study.optimize(lambda trial: (objective(trial), 1.0), n_trials=1)


@pytest.mark.parametrize(("argument", "message"), [({"seed": -1}, "seed"), ({"seed": 0.5}, "seed")])
def test_wrong_arguments_are_refused_by_name(argument, message):
    with pytest.raises(ValueError, match=message):
        Sampler(STRATEGIES["sobol"], **argument)
    with pytest.raises(ValueError, match="strategy"):
        Sampler(mh.strategies.sobol(SPACE, 4))


# Workers.


def test_running_trials_are_pending_and_candidates_differ():
    study = make("differential_evolution")
    study.optimize(objective, n_trials=1)
    running = [study.ask() for _ in range(9)]
    asked = {trial.number: suggested(trial) for trial in reversed(running)}  # in any order
    assert sorted(candidates(study)[1:]) == list(range(9))
    (note,) = [n for t in study.trials[1:] if (n := notes.read(t)).opened and n.round == 1]
    assert note.pending == list(range(6))
    for trial in running[::2]:
        study.tell(trial, loss(asked[trial.number]))
    study.optimize(objective, n_trials=4)
    assert candidates(study)[10:] == [9, 10, 11, 12]
    told = {candidates(study)[trial.number] for trial in running[::2]}
    note = notes.read(study.trials[-1])
    assert note.opened and set(note.pending) == set(range(9)) - told


def test_whoever_finds_all_of_a_round_given_out_draws_and_then_tries_what_is_pending():
    study = make()  # CMA-ES needs a whole round of 6
    study.optimize(objective, n_trials=1)
    running = [study.ask() for _ in range(6)]
    for trial in running:
        suggested(trial)
    study.optimize(objective, n_trials=6)
    assert candidates(study)[7:] == [-1] * 6
    assert len({trial.params["rate"] for trial in study.trials}) == 13
    study.optimize(objective, n_trials=6)
    assert candidates(study)[13:] == [0, 1, 2, 3, 4, 5]
    late = running[2]
    study.tell(late, 1e9)  # who comes second does not count
    study.optimize(objective, n_trials=6)
    assert candidates(study)[19:] == list(range(6, 12))
    alone = make()
    alone.optimize(objective, n_trials=13)
    assert params(study)[19:] == params(alone)[7:]


def test_threads_share_a_run():
    study = make("differential_evolution")
    study.optimize(objective, n_trials=1)
    study.optimize(objective, n_trials=40, n_jobs=4)
    assert sorted(candidates(study)[1:]) == list(range(40))


def test_a_trial_that_the_storage_tries_again_goes_on_with_its_candidate():
    study = make("differential_evolution")
    study.optimize(objective, n_trials=1)
    broken = study.ask()
    suggested(broken)
    study.tell(broken, state=TrialState.FAIL)
    storages = optuna.storages
    new = getattr(storages, "RetryHeartbeatStaleTrialCallback", None)  # since Optuna 4.9
    (new or storages.RetryFailedTrialCallback)()(study, study.trials[-1])
    study.optimize(objective, n_trials=8)
    assert candidates(study) == [-1, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert study.trials[2].params == study.trials[1].params


# What it costs.


def test_a_sampler_can_be_copied_and_pickled_in_the_middle_of_a_study():
    sampler = Sampler(functools.partial(mh.strategies.cma_es, population=6), seed=3)
    study = optuna.create_study(sampler=sampler, study_name="s")
    study.optimize(objective, n_trials=9)
    study.sampler = pickle.loads(pickle.dumps(sampler))
    study.optimize(objective, n_trials=9)
    study.sampler = copy.deepcopy(study.sampler)
    study.optimize(objective, n_trials=9)
    alone = make()
    alone.optimize(objective, n_trials=27)
    assert params(study) == params(alone)


@pytest.mark.parametrize("name", STRATEGIES)
def test_500_trials_compile_four_programs_and_go_through_the_run_once(name, caplog, monkeypatch):
    begun = []
    restart = replay.Replay._restart
    monkeypatch.setattr(replay.Replay, "_restart", lambda self: begun.append(self) or restart(self))
    jax.random.key(0), MAKE[name](SPACE)  # which compile something once for all
    study = make(name, strategies=MAKE)  # none that another test has compiled
    seconds = []

    def timed(trial):
        start = time.perf_counter()
        h = suggested(trial)
        seconds.append(time.perf_counter() - start)
        return loss(h)

    with jax.log_compiles():
        study.optimize(timed, n_trials=500)
    assert len([r for r in caplog.records if "Finished XLA compilation" in r.message]) == 4
    assert len(begun) == 1
    assert statistics.median(seconds[400:]) < 0.05


def test_notes_fit_into_a_database():
    numbers = list(range(10**6, 10**6 + notes.MOST))
    note = notes.Note("0" * 8, 10**6, 10**6, True, numbers, [], notes.worker())
    study = make()
    trial = study.ask()
    notes.write(study._storage, study.trials[0], note)
    assert len(repr(list(note))) < 2045
    assert notes.read(study.trials[trial.number]) == note


def test_no_more_candidates_are_pending_than_a_note_can_hold():
    study = make("sobol")
    study.optimize(objective, n_trials=1)
    for _ in range(notes.MOST + 20):
        suggested(study.ask())
    longest = max(len(repr(t.system_attrs.get("metahpo"))) for t in study.trials)
    assert 800 < longest < 2045
    found = candidates(study)[1:]
    assert max(found) > notes.MOST - 6 and -1 in found
