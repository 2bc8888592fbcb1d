"""Bayesian optimisation with a Gaussian process."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xla

import metahpo as mh
from metahpo.run import AskTell
from metahpo.strategies import parts
from metahpo.strategies.bayesian import modelled
from metahpo.surrogates import acquisition

SQUARE = {"x": mh.Float(0.0, 1.0, shape=(2,))}
GIVEN = {"x": 0.25, "n": 3, "kind": "b"}
MIXED = {"x": mh.Float(0.0, 1.0), "n": mh.Int(1, 8), "kind": mh.Choice(("a", "b", "c"))}


def branin(h):
    x, y = 15 * h["x"][0] - 5, 15 * h["x"][1]
    valley = y - 5.1 / (4 * jnp.pi**2) * x**2 + 5 / jnp.pi * x - 6
    return valley**2 + 10 * (1 - 1 / (8 * jnp.pi)) * jnp.cos(x) + 10 - 0.397887


def mixed(h):
    penalty = jnp.array([1.0, 0.0, 0.5])[jnp.asarray(h["kind"])]
    return 4 * (h["x"] - 0.7) ** 2 + 0.1 * (h["n"] - 5) ** 2 + penalty


@functools.cache
def program(fn, rounds, population=1, **options):
    """``(key) -> SearchResult``, compiled once."""
    space = MIXED if fn is mixed else SQUARE
    strategy = mh.strategies.gaussian_process(
        space, population, **{"capacity": rounds * population} | options
    )

    def run(key):
        return mh.search(key, mh.problems.function(fn), space, strategy, rounds=rounds, steps=1)

    return jax.jit(jax.vmap(run), compiler_options=xla.LONG_RUN)


def keys(count):
    return jax.random.split(jax.random.key(0), count)


@pytest.mark.slow
def test_thirty_evaluations_find_the_minimum_of_branin():
    loss = program(branin, 30)(keys(12)).best_loss
    # Sobol's points alone reach 0.9 in the median.
    assert np.median(loss) < 0.01
    assert np.max(loss) < 0.5


@pytest.mark.slow
def test_choices_and_integers_are_found_exactly():
    result = program(mixed, 25)(keys(8))
    best = result.best_hparams
    right = (np.asarray(best["n"]) == 5) & (np.asarray(best["kind"]) == 1)
    assert right.sum() >= 7
    assert np.median(result.best_loss) < 1e-3


@pytest.mark.slow
def test_points_of_a_round_are_apart():
    unit = np.asarray(program(branin, 6, 4)(keys(4)).history.unit)
    for lane in unit:
        for points in lane[2:]:  # the first 8 are those of the sequence
            apart = np.abs(points[:, None] - points).max(-1) + np.eye(4)
            assert apart.min() > 1e-3


ACQUISITIONS = ["ei", "pi", "ucb"]


@functools.cache
def acquired():
    """``(which, keys) -> SearchResult``, one program for all."""

    def run(which, key):
        functions = [acquisition.BY_NAME[name] for name in ACQUISITIONS]

        def value(*x):
            return jax.lax.switch(which, functions, *x)

        strategy = mh.strategies.gaussian_process(SQUARE, capacity=24, acquisition=value)
        problem = mh.problems.function(branin)
        return mh.search(key, problem, SQUARE, strategy, rounds=24, steps=1)

    return jax.jit(jax.vmap(run, (None, 0)), compiler_options=xla.LONG_RUN)


@pytest.mark.slow
@pytest.mark.parametrize("which", range(3), ids=ACQUISITIONS)
def test_every_acquisition_function_beats_the_sequence(which):
    loss = acquired()(which, keys(8)).best_loss
    assert np.median(loss) < 0.3  # 1.2 for the sequence


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_an_acquisition_function_is_known_by_its_name(name):
    def traced(acquisition):
        strategy = mh.strategies.gaussian_process(SQUARE, acquisition=acquisition, capacity=24)
        state = jax.eval_shape(strategy.init, jax.random.key(0))
        return str(jax.make_jaxpr(strategy.ask)(jax.random.key(0), state))

    assert traced(name) == traced(acquisition.BY_NAME[name])


@pytest.mark.slow
def test_samples_of_the_process_beat_the_sequence():
    loss = program(branin, 24, acquisition="thompson")(keys(8)).best_loss
    assert np.median(loss) < 0.3  # 1.2 for the sequence


@pytest.mark.slow
def test_what_was_evaluated_is_not_proposed_again():
    space = {"n": mh.Int(1, 4), "kind": mh.Choice(("a", "b", "c"))}
    strategy = mh.strategies.gaussian_process(space, capacity=16)
    problem = mh.problems.function(lambda h: (h["n"] - 2.0) ** 2 + h["kind"])
    result = jax.jit(lambda key: mh.search(key, problem, space, strategy, rounds=14, steps=1))(
        jax.random.key(1)
    )
    cells = np.floor(np.asarray(result.history.unit[:, 0]) * [3, 4]).clip(0, [2, 3])
    later = cells[4:12]  # from where the process suggests until the cube is exhausted
    known = {tuple(cell) for cell in cells[:4]}
    assert len({tuple(cell) for cell in later} - known) == min(8, 12 - len(known))
    assert np.isfinite(result.history.unit).all()


@pytest.mark.parametrize(
    "losses",
    [
        lambda i: 1.0,
        lambda i: float("nan"),
        lambda i: float("inf") if i % 2 else 1e7,
        lambda i: 1e-30 * i,
        lambda i: [4e7, 2e-4][i % 2],
    ],
    ids=["constant", "nan", "infinite", "tiny", "far_apart"],
)
def test_no_loss_does_harm(losses):
    tuner = AskTell(MIXED, harmless(), seed=0, rounds=12)
    for i in range(12):
        candidate = tuner.ask()
        assert 0 <= candidate.hparams["x"] <= 1
        tuner.tell(candidate.number, losses(i))
    unit = tuner.result().history.unit
    assert np.isfinite(unit).all()
    assert len(np.unique(unit, axis=0)) == 12


@functools.cache
def harmless():
    return mh.strategies.gaussian_process(MIXED, initial=[GIVEN], capacity=12)


def test_places_of_idle_slots_are_free_again():
    strategy = mh.strategies.gaussian_process(SQUARE, 4, capacity=10)
    state = strategy.init(jax.random.key(0))
    state = state._replace(pending=jnp.arange(10) < 4)
    proposal = parts.proposal(jnp.full((4, 2), 0.5), note=jnp.arange(4))
    shrunk = proposal._replace(budget=jnp.array([1, 0, 1, 0]))
    told = mh.Evaluation(jnp.arange(4.0), None, jnp.array([1, 0, 0, 0]))
    state = strategy.tell(jax.random.key(0), state, shrunk, told)
    np.testing.assert_array_equal(np.flatnonzero(state.told), [0])
    np.testing.assert_array_equal(np.flatnonzero(state.pending), [2])
    places, taken = modelled.room(state, 4)
    np.testing.assert_array_equal(places, [1, 3, 4, 5])
    assert taken == 3
    # Where there is no room the worst make it.
    full = state._replace(told=jnp.arange(10) < 9, loss=-jnp.arange(10.0))
    places, taken = modelled.room(full._replace(pending=jnp.arange(10) == 9), 4)
    np.testing.assert_array_equal(places, [0, 1, 2, 3])
    assert taken == 10


def test_given_points_come_first():
    found = AskTell(MIXED, harmless(), seed=0, rounds=12).ask().hparams
    assert found == GIVEN | {"x": pytest.approx(GIVEN["x"])}


def test_pending_points_are_kept_away_from():
    tuner = AskTell(MIXED, harmless(), seed=0, rounds=12)
    for _ in range(6):
        candidate = tuner.ask()
        tuner.tell(candidate.number, float(mixed_on_host(candidate.hparams)))
    waiting = [tuner.ask() for _ in range(4)]
    unit = tuner.result().history.unit[6:10, 0]
    assert len(np.unique(unit.round(4), axis=0)) == 4
    for candidate in reversed(waiting):
        tuner.tell(candidate.number, float(mixed_on_host(candidate.hparams)))
    assert tuner.result().evaluations == 10


def mixed_on_host(hparams):
    return mixed(hparams | {"kind": "abc".index(hparams["kind"])})


@pytest.mark.slow
def test_a_larger_capacity_changes_nothing():
    with jax.enable_x64(True):
        points = jax.random.uniform(jax.random.key(2), (10, 2))
        units = []
        for capacity in (12, 40):
            strategy = mh.strategies.gaussian_process(SQUARE, capacity=capacity)
            state = strategy.init(jax.random.key(0))
            state = state._replace(
                unit=state.unit.at[:10].set(points),
                loss=state.loss.at[:10].set(jax.vmap(lambda x: branin({"x": x}))(points)),
                told=state.told.at[:10].set(True),
                asked=jnp.int32(10),
            )
            proposal, state = jax.jit(strategy.ask)(jax.random.key(1), state)
            units.append(np.asarray(proposal.unit))
    np.testing.assert_allclose(*units, atol=1e-6)


def test_numbers_of_the_prior_and_of_the_acquisition_may_be_traced():
    space = {"x": mh.Float(0.0, 1.0)}
    problem = mh.problems.function(lambda h: (h["x"] - 0.6) ** 2)

    def run(length, noise, exploration):
        strategy = mh.strategies.gaussian_process(
            space,
            capacity=10,
            length=length,
            noise=noise,
            acquisition=acquisition.ucb(exploration),
        )
        return mh.search(jax.random.key(0), problem, space, strategy, rounds=10, steps=1)

    numbers = jnp.array([0.2, 1.0]), jnp.array([1e-3, 1e-2]), jnp.array([0.5, 3.0])
    result = jax.jit(jax.vmap(run))(*numbers)
    assert (np.asarray(result.best_loss) < 1e-2).all()
    assert not np.allclose(*result.history.unit)


def test_a_run_of_more_evaluations_than_the_capacity_is_refused():
    strategy = mh.strategies.gaussian_process(SQUARE, 4, capacity=32)
    problem = mh.problems.function(branin)
    with pytest.raises(ValueError, match="room for 8 rounds, the run makes 9"):
        mh.search(jax.random.key(0), problem, SQUARE, strategy, rounds=9, steps=1)
    with pytest.raises(ValueError, match="room for 8 rounds, the run makes 9"):
        mh.minimize(branin, SQUARE, strategy, rounds=9)


def test_rounds_of_an_earlier_run_count():
    strategy, problem = mh.strategies.tpe(SQUARE, 4, capacity=8), mh.problems.function(branin)
    begun = mh.search(jax.random.key(0), problem, SQUARE, strategy, rounds=1, steps=1)
    with pytest.raises(ValueError, match="room for 2 rounds, the run makes 3"):
        mh.search(
            jax.random.key(0), problem, SQUARE, strategy, rounds=2, steps=1, state=begun.state
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"acquisition": "eg"}, "acquisition must be one of"),
        ({"capacity": 4}, "capacity .* at least 5, got 4"),
        ({"startup": 0}, "startup .* at least 1, got 0"),
        ({"length": 0.0}, "length must be positive, got 0.0"),
        ({"noise": -1.0}, "noise must be positive, got -1.0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        mh.strategies.gaussian_process(SQUARE, **arguments)
