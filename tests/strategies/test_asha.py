"""ASHA promotes as algorithm 2 of Li et al. (2020) does, event by event."""

import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_brackets import PROBLEM, SPACE

import metahpo as mh
from metahpo.run import AskTell, WaitingError
from metahpo.strategies import asha

KEY = jax.random.key(5)
NOTHING = None


class Reference:
    """Algorithm 2 in plain Python, for a limited number of configurations."""

    def __init__(self, configurations, rungs, eta):
        self.limit, self.eta = configurations, eta
        self.known = [{} for _ in range(rungs)]  # configuration -> loss
        self.promoted = [set() for _ in range(rungs)]
        self.begun = 0

    def job(self):
        """``(configuration, rung)``, or nothing to do."""
        for k in reversed(range(len(self.known) - 1)):
            ranked = sorted(self.known[k], key=lambda c: (self.known[k][c], c))
            for c in ranked[: len(ranked) // self.eta]:
                if c not in self.promoted[k] and self.known[k][c] < np.inf:
                    self.promoted[k].add(c)
                    return c, k + 1
        if self.begun == self.limit:
            return NOTHING
        self.begun += 1
        return self.begun - 1, 0

    def tell(self, configuration, rung, loss):
        self.known[rung][configuration] = loss if np.isfinite(loss) else np.inf


def loss_of(configuration, rung, seed):
    """With ties, and failures now and then."""
    draw = random.Random(f"{configuration} {rung} {seed}")
    return draw.choice([float("nan"), float("inf"), *range(12), *range(12)])


def simulated(tuner, reference, workers, seed, most=10_000):
    """Workers that take their time, each told by when it is done; compares all jobs.

    Returns the jobs, and how often a worker had nothing to do.
    """
    rng, busy, jobs, waits = random.Random(seed), [], {}, 0
    while len(jobs) < most:
        while len(busy) < workers and len(jobs) < most:
            expected = reference.job()
            if expected is NOTHING:
                with pytest.raises(WaitingError if busy else RuntimeError):
                    tuner.ask()
                waits += 1
                break
            candidate = tuner.ask()
            if candidate.parent is None:
                found = sum(rung == 0 for _, rung in jobs.values()), 0
            else:
                configuration, rung = jobs[candidate.parent]
                found = configuration, rung + 1
            assert found == expected
            assert candidate.budget == (1 if found[1] == 0 else 2 * 3 ** (found[1] - 1))
            jobs[candidate.number] = found
            busy.append(candidate.number)
        if not busy:
            break
        number = busy.pop(rng.randrange(len(busy)))
        configuration, rung = jobs[number]
        loss = loss_of(configuration, rung, seed)
        reference.tell(configuration, rung, loss)
        tuner.tell(number, loss)
    return jobs, waits


@pytest.mark.parametrize(("workers", "seed"), [(1, 0), (1, 1), (4, 2), (7, 3), (30, 4)])
def test_promotions_of_many_workers_are_those_of_the_algorithm(workers, seed):
    strategy = asha(SPACE, 40, 27)
    assert not strategy.needs.order
    tuner = AskTell(SPACE, strategy, trainings=True, seed=seed)
    jobs, waits = simulated(tuner, Reference(40, 4, 3), workers, seed)
    rungs = [rung for _, rung in jobs.values()]
    assert rungs.count(0) == 40 and rungs.count(1) > 8 and rungs.count(2) > 1  # not vacuous
    assert waits > 0
    assert tuner.over and tuner.reason == mh.StopReason.BUDGET
    assert tuner.evaluations == len(jobs)


def test_a_tuner_that_is_restored_while_workers_are_busy_goes_on_alike():
    strategy, reference = asha(SPACE, 20, 9), Reference(20, 3, 3)
    tuner = AskTell(SPACE, strategy, trainings=True, seed=1)
    simulated(tuner, reference, 4, 0, most=17)
    again = AskTell(SPACE, strategy, trainings=True, seed=1, state=tuner.state)
    pending = tuner.pending
    assert pending and again.pending == pending
    assert [again.ask().number for _ in pending] == pending
    for number in pending:
        tuner.tell(number, 0.5)
        again.tell(number, 0.5)
    for _ in range(5):
        one, other = tuner.ask(), again.ask()
        assert one == other
        tuner.tell(one.number, 0.25)
        again.tell(other.number, 0.25)


def test_whoever_never_tells_keeps_nobody_waiting():
    tuner = AskTell(SPACE, asha(SPACE, 9, 9), trainings=True)
    lost = tuner.ask()
    budgets = []
    for i in range(10):
        candidate = tuner.ask()
        budgets.append(candidate.budget)
        tuner.tell(candidate.number, i)
    assert budgets == [1, 1, 1, 2, 1, 1, 1, 2, 1, 1]
    with pytest.raises(WaitingError, match=r"candidates \[0\] must come first"):
        tuner.ask()
    assert not tuner.ready and not tuner.over
    tuner.tell(lost.number, -1.0)
    assert tuner.ready and tuner.ask().parent == lost.number


def search_rounds(workers, rounds, sampler=None, **options):
    strategy = asha(SPACE, 18, 9, workers=workers, sampler=sampler)
    run = lambda key: mh.search(  # noqa: E731
        key, PROBLEM, SPACE, strategy, rounds=rounds, steps=strategy.needs.steps, **options
    )
    return run


@pytest.mark.parametrize("workers", [1, 3])
def test_rounds_of_a_search_are_those_of_the_algorithm(workers):
    rounds = 30
    h = jax.tree.map(np.asarray, jax.jit(search_rounds(workers, rounds))(KEY).history)
    reference, rung, waited = Reference(18, 3, 3), {}, 0
    for t in range(rounds):
        jobs = [job for job in (reference.job() for _ in range(workers)) if job is not NOTHING]
        assert sorted(c for c, _ in jobs) == np.flatnonzero(h.budget[t]).tolist()
        waited += not jobs
        for c, k in jobs:
            assert h.budget[t, c] == (1, 2, 6)[k] and h.parent[t, c] == (c if k else -1)
            rung[c] = k
            reference.tell(c, k, float(h.loss[t, c]))
    assert max(rung.values()) == 2 and waited > 0


def test_many_seeds_in_one_program_end_with_their_own_last_evaluation():
    run = search_rounds(2, 60, stop=mh.stopping.any_of())
    keys = jax.random.split(KEY, 3)
    lanes = jax.jit(jax.vmap(run))(keys)
    assert set(lanes.stop_reason.tolist()) == {mh.StopReason.BUDGET}
    assert (np.asarray(lanes.rounds) < 20).all()
    for i in range(3):
        alone = jax.jit(run)(keys[i])
        assert alone.rounds == lanes.rounds[i]
        np.testing.assert_array_equal(alone.history.budget, lanes.history.budget[i])
        np.testing.assert_allclose(alone.history.loss, lanes.history.loss[i], rtol=1e-6)


def test_an_interrupted_run_resumes_to_the_same_history(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    strategy = asha(SPACE, 18, 9, workers=2)
    loop = mh.run.search_loop(PROBLEM, SPACE, strategy, rounds=14, steps=strategy.needs.steps)
    options = {"chunk": 5, "progress": False}
    whole = mh.run.drive(loop, KEY, **options)
    mh.run.drive(loop, KEY, directory=tmp_path, on_chunk=lambda *_: True, **options)
    again = mh.run.drive(loop, KEY, directory=tmp_path, resume=True, **options)
    np.testing.assert_array_equal(again.history.loss, whole.history.loss)


def listening(workers, heard):
    """Proposes its number of points so far, and writes down what it is told."""
    inner = mh.strategies.random(SPACE, workers)

    def ask(key, asked):
        proposal, _ = inner.ask(key, inner.init(key))
        number = asked * workers + jnp.arange(workers)
        unit = proposal.unit.at[:, 0].set(number / 64)
        return proposal._replace(unit=unit, note=number), asked + 1

    def tell(key, asked, proposal, evaluation):
        jax.debug.callback(lambda *x: heard.append(x), proposal, evaluation, ordered=True)
        return asked

    return inner._replace(init=lambda key: jnp.zeros((), int), ask=ask, tell=tell)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_sampler_is_told_each_loss_of_the_bottom_rung_once(workers):
    heard = []
    run = search_rounds(workers, 30, sampler=listening(workers, heard))
    h = jax.tree.map(np.asarray, jax.jit(run)(KEY).history)
    jax.effects_barrier()
    began = {c: h.loss[t, c] for t, c in zip(*np.nonzero(h.budget == 1), strict=True)}
    told = {}
    for proposal, evaluation in heard:
        assert evaluation.steps.any()  # nobody is bothered for nothing
        for i in np.flatnonzero(evaluation.steps):
            number = int(proposal.note[i])
            assert number not in told and evaluation.steps[i] == 1
            assert proposal.unit[i, 0] == number / 64 == h.unit[-1, number, 0]
            told[number] = evaluation.loss[i]
    assert told == began and len(told) > 2 * workers


@pytest.mark.parametrize(
    "make",
    [
        mh.strategies.sobol,
        mh.strategies.shade,
        functools.partial(mh.strategies.tpe, capacity=18),
        functools.partial(mh.strategies.gaussian_process, capacity=20),
    ],
)
def test_samplers_of_all_kinds_run(make):
    result = jax.jit(search_rounds(4, 12, sampler=make(SPACE, 4)))(KEY)
    h = jax.tree.map(np.asarray, result.history)
    assert np.isfinite(result.best_loss)
    assert len(np.unique(h.unit[-1][(h.budget == 1).any(0)], axis=0)) == (h.budget == 1).sum() > 8


@pytest.mark.slow
def test_a_model_is_asked_and_told_one_by_one():
    sampler = mh.strategies.tpe(SPACE, 1, capacity=30, startup=6)
    tuner = AskTell(SPACE, asha(SPACE, 30, 9, sampler=sampler), trainings=True, seed=2)
    points = []
    with pytest.raises(RuntimeError, match="the run is over"):
        while True:
            candidate = tuner.ask()
            if candidate.parent is None:
                points.append(candidate.hparams["x"])
            tuner.tell(candidate.number, abs(candidate.hparams["x"] - 0.1))
    assert len(set(points)) == 30
    distance = np.abs(np.array(points) - 0.1)
    assert np.median(distance[-10:]) < 0.5 * np.median(distance[:6])


@pytest.mark.parametrize(
    ("sampler", "error"),
    [
        (mh.strategies.random(SPACE, 2), "sampler must have the population 1, got 2"),
        (mh.strategies.pbt(SPACE, 2), "needs trainings"),
        (mh.strategies.cma_es(SPACE, 2), "sampler must have the population 1"),
        (mh.strategies.hypergradient(SPACE, 1), "needs gradients"),
        (mh.strategies.tpe(SPACE, 1, capacity=8), "room for 9 rounds.* room for 8; raise its capa"),
        (mh.strategies.random, "sampler must be a Strategy"),
    ],
)
def test_a_sampler_that_does_not_fit_is_refused(sampler, error):
    with pytest.raises(ValueError, match=error):
        asha(SPACE, 9, 9, sampler=sampler)


def test_a_sampler_that_keeps_an_order_is_refused():
    with pytest.raises(ValueError, match="any order .needs.order=False"):
        asha(SPACE, 9, 9, workers=4, sampler=mh.strategies.cma_es(SPACE, 4))


@pytest.mark.parametrize(
    ("workers", "error"),
    [
        (10, "workers must be at most the population 9, got 10"),
        (0, "workers must be a whole number of at least 1, got 0"),
    ],
)
def test_workers_that_there_are_no_members_for_are_refused(workers, error):
    with pytest.raises(ValueError, match=error):
        asha(SPACE, 9, 9, workers=workers)
