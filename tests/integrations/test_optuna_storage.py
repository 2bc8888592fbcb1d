"""Studies in a file: closed and opened again, killed, and shared by processes."""

import subprocess
import sys
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna")

from studies import STRATEGIES, candidates, make, objective, params, suggested  # noqa: E402

import metahpo as mh  # noqa: E402
from metahpo.integrations.optuna import Sampler, notes  # noqa: E402
from metahpo.integrations.optuna import distributions as dist  # noqa: E402
from metahpo.integrations.optuna.replay import Replay  # noqa: E402

PROCESS = Path(__file__).with_name("sampling_process.py")


@pytest.fixture
def storage(tmp_path):
    return f"sqlite:///{tmp_path}/study.db"


def start(*arguments):
    return subprocess.Popen([sys.executable, PROCESS, *map(str, arguments)])


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_study_closed_and_opened_again_is_the_one_that_was_never_closed(name, storage):
    whole = make(name)
    whole.optimize(objective, n_trials=31)
    for trials in (1, 4, 7, 1, 12, 6):  # in the middle of a round and at its end
        make(name, storage=storage).optimize(objective, n_trials=trials)
    again = make(name, storage=storage)
    assert params(again) == params(whole)
    assert candidates(again) == candidates(whole)


@pytest.mark.parametrize("name", ["cma_es", "differential_evolution"])
def test_losses_that_came_late_are_told_again_as_they_were(name, storage):
    def crowd(study, turns):
        """Two at work; the later one of them ends first."""
        waiting = [(t, suggested(t)) for t in (study.ask(), study.ask())]
        for _ in range(turns):
            trial, h = waiting.pop(0 if len(waiting) % 2 else 1)
            study.tell(trial, h["rate"] + h["width"])
            trial = study.ask()
            waiting.append((trial, suggested(trial)))
        return waiting

    studies = [make(name), make(name, storage=storage)]
    for study in studies:
        study.optimize(objective, n_trials=1)
        crowd(study, 20)
    again = make(name, storage=storage)  # with two running trials, of a process that lives
    for study in (studies[0], again):
        study.optimize(objective, n_trials=12)
    assert params(studies[0]) == params(again)


@pytest.mark.parametrize(("name", "seed"), [("cma_es", 3), ("differential_evolution", 5)])
def test_another_strategy_or_seed_begins_anew_in_an_old_study(name, seed, storage):
    make("differential_evolution", storage=storage).optimize(objective, n_trials=20)
    other = make(name, storage=storage, seed=seed)
    other.optimize(objective, n_trials=13)
    alone = make(name, seed=seed)
    alone.optimize(objective, n_trials=14)
    assert params(other)[20:] == params(alone)[1:]
    assert candidates(other)[20:] == list(range(13))


@pytest.mark.slow
def test_options_that_leave_no_trace_begin_where_they_make_a_difference(storage):
    """What the old strategy evaluated counts as long as the new one would have asked for it."""

    def study(rate, storage=None):
        def strategy(space):
            return mh.strategies.differential_evolution(space, 6, crossover_rate=rate)

        sampler = Sampler(strategy, seed=3)
        return optuna.create_study(
            study_name="s", storage=storage, load_if_exists=True, sampler=sampler
        )

    study(0.9, storage).optimize(objective, n_trials=20)
    other = study(0.2, storage)
    other.optimize(objective, n_trials=12)
    alone = study(0.2)
    alone.optimize(objective, n_trials=19)
    assert params(other)[:7] == params(alone)[:7]
    assert params(other)[20:] == params(alone)[7:]


def test_a_study_whose_past_turns_out_to_be_another_is_followed_from_the_first():
    """Two processes ask for a round at once: the trial with the lower number is believed."""
    study = make("differential_evolution")
    study.optimize(objective, n_trials=1)
    running = [study.ask() for _ in range(8)]
    for trial in running[:6]:
        study.tell(trial, suggested(trial)["rate"])
    asked = [suggested(running[7]), suggested(running[6])][::-1]
    mine = notes.read(study.trials[8])
    assert mine.opened and mine.candidate == 7  # trial 7 was about to ask
    space = study.sampler.infer_relative_search_space(study, study.trials[0])
    replay = Replay(space, STRATEGIES["differential_evolution"], 3, 1)

    def noted(trials):
        return [(t, note) for t in trials if (note := notes.read(t)) is not None]

    replay.follow(noted(study.trials))
    assert replay.candidates[7] == asked[1] and replay._untold == [6, 7, 8, 9, 10, 11]
    trials = study.trials
    other = notes.read(trials[7])._replace(opened=True, pending=[3, 4, 5])
    trials[7].system_attrs[notes.KEY] = list(other)
    replay.follow(noted(trials))
    assert replay._untold == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    replay.follow(noted(study.trials))
    assert replay.candidates[7] == asked[1] and replay._untold == [6, 7, 8, 9, 10, 11]


@pytest.mark.slow
def test_notes_know_the_dead_from_the_living():
    here = notes.worker()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = f"{here.rsplit(' ', 1)[0]} {ended.pid}"
    assert not notes.dead(here) and not notes.dead(f"{here.rsplit(' ', 1)[0]} 1")
    assert notes.dead(gone)
    assert not notes.dead(f"elsewhere pid:[1] {ended.pid}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cma_es", "differential_evolution"])
def test_a_killed_process_costs_its_trial_and_nothing_else(name, storage):
    assert start(storage, name, 30, 9).wait() == 9
    study = make(name, storage=storage)
    assert study.trials[9].state == optuna.trial.TrialState.RUNNING
    study.optimize(objective, n_trials=15)
    whole = make(name)
    whole.optimize(objective, n_trials=24)
    assert params(study)[:9] + params(study)[10:] == params(whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cma_es", "differential_evolution"])
def test_processes_share_a_run_on_one_file(name, storage):
    make(name, storage=storage).optimize(objective, n_trials=1)
    workers = [start(storage, name, 25) for _ in range(3)]
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0, 0]
    study = make(name, storage=storage)
    assert len(study.trials) == 76
    own = [number for number in candidates(study) if number >= 0]
    assert len(set(own)) >= 0.9 * len(own)  # two may take the same one in one moment
    assert set(own) == set(range(max(own) + 1))
    # Whoever comes later has the same run.
    space = study.sampler.infer_relative_search_space(study, study.trials[0])
    replay = Replay(space, STRATEGIES[name], 3, 1)
    noted = [(t, note) for t in study.trials if (note := notes.read(t)) is not None]
    replay.follow(noted)
    others = [
        trial.number
        for trial, note in noted
        if note.candidate >= 0
        and not dist.same(space, replay.candidates[note.candidate], trial.params)
    ]
    # Two that ask for a round at once may know different losses; then one of them is believed.
    assert len(others) <= (0 if name == "cma_es" else 7)
