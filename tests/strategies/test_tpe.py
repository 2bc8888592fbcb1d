"""TPE: its split, its memory, the constant liar, and awkward losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.strategies import tpe
from metahpo.strategies.bayesian.tpe import TPEState, good_count
from metahpo.surrogates import parzen

SPACE = {
    "rate": mh.Float(1e-3, 1.0, log=True),
    "width": mh.Int(1, 9),
    "kind": mh.Choice(("a", "b", "c")),
}
SIZE = 3


def loss_of(h):
    return (jnp.log10(h["rate"]) + 1) ** 2 + 0.1 * (h["width"] - 3) ** 2 + (h["kind"] != 1)


def searched(fn=loss_of, population=1, rounds=60, **options):
    def run(key):
        strategy = tpe(SPACE, population, **options)
        problem = mh.problems.function(fn)
        return mh.search(key, problem, SPACE, strategy, rounds=rounds, steps=1)

    return run


def told_of(loss, capacity=None):
    """The state after evaluations with these losses at random points."""
    loss = jnp.asarray(loss, float)
    count, capacity = len(loss), capacity or len(loss) + 16
    unit = jax.random.uniform(jax.random.key(5), (count, SIZE))
    return TPEState(
        jnp.zeros((capacity, SIZE)).at[:count].set(unit),
        jnp.full(capacity, jnp.inf).at[:count].set(loss),
        jnp.arange(capacity) < count,
        jnp.int32(count),
        jnp.zeros((1, SIZE)),
        None,
    )


def asked(state, keys, population=1, **options):
    """The points ``[K, P, D]`` that are asked for next under every key."""
    strategy = tpe(SPACE, population, capacity=len(state.loss), **options)
    return jax.jit(jax.vmap(lambda key: strategy.ask(key, state)[0].unit))(keys)


KEYS = jax.random.split(jax.random.key(2), 10)


def test_the_same_search_in_every_capacity():
    runs = [
        jax.jit(searched(capacity=capacity))(jax.random.key(0)).history.unit
        for capacity in (60, 61, 200)
    ]
    for other in runs[1:]:
        np.testing.assert_allclose(other, runs[0], atol=1e-5)


def test_it_proposes_the_candidate_of_the_highest_ratio_of_the_two_densities():
    """By hand: of 30 evaluations the best three; two are equal, and the one before counts."""
    loss = np.random.default_rng(0).permutation(30).astype(float)
    third = np.flatnonzero(loss == 2)[0]
    loss[29] = 2.0
    loss[(third + 3) % 29] = np.inf
    state = told_of(loss)
    unit = asked(state, KEYS)
    best = np.sort(np.argsort(loss, kind="stable")[:3])
    assert third in best and 29 not in best
    rest = np.setdiff1d(np.arange(30), best)
    dims = list(mh.space.dimensions(SPACE).values())
    high = parzen.fitted(dims, state.unit[rest], jnp.ones(27, bool))
    # Empty slots change what is drawn, though not from what.
    padded = jnp.zeros((25, SIZE)).at[:3].set(state.unit[best])
    low = parzen.fitted(dims, padded, jnp.arange(25) < 3)

    @jax.vmap
    def highest(key):
        (key,) = jax.random.split(jax.random.split(key)[1], 1)
        points = parzen.drawn(key, dims, low, 24)
        score = parzen.log_density(dims, low, points) - parzen.log_density(dims, high, points)
        return points[jnp.argmax(score)]

    np.testing.assert_allclose(unit[:, 0], highest(KEYS), atol=1e-6)


def test_the_number_of_good_ones_is_optunas():
    sampler = pytest.importorskip("optuna.samplers._tpe.sampler")
    assert [good_count(n) for n in range(400)] == [sampler.default_gamma(n) for n in range(400)]


def test_the_number_of_good_ones_is_a_tenth_rounded_up():
    assert [good_count(n) for n in (0, 1, 10, 11, 30, 31, 250, 251)] == [0, 1, 1, 2, 3, 4, 25, 25]


def test_what_is_asked_and_not_told_is_kept_away_from():
    """Members of one round differ more than points that do not know of one another."""
    state = told_of(np.linspace(0, 1, 20))
    together = asked(state, KEYS, 16)
    alone = asked(state, jax.random.split(jax.random.key(3), 160)).reshape(10, 16, SIZE)

    def apart(unit):
        return np.abs(unit[:, :, None, 1] - unit[:, None, :, 1]).mean()

    assert apart(np.asarray(together)) > 1.1 * apart(np.asarray(alone))


def test_tells_may_come_late_and_in_part():
    strategy = tpe(SPACE, 4, capacity=20)
    ask, state = jax.jit(strategy.ask), strategy.init(jax.random.key(0))
    first, state = ask(jax.random.key(1), state)
    second, state = ask(jax.random.key(2), state)
    evaluation = mh.Evaluation(
        jnp.array([1.0, jnp.inf, 3.0, jnp.inf]), None, jnp.array([1, 0, 1, 0])
    )
    state = strategy.tell(jax.random.key(3), state, second, evaluation)
    np.testing.assert_array_equal(np.flatnonzero(state.told), [4, 6])
    late = mh.Evaluation(jnp.arange(4.0), None, jnp.ones(4, int))
    state = strategy.tell(jax.random.key(3), state, first, late)
    np.testing.assert_array_equal(np.flatnonzero(state.told), [0, 1, 2, 3, 4, 6])
    np.testing.assert_array_equal(state.loss[:8], [0, 1, 2, 3, 1, np.inf, 3, np.inf])


def test_slots_beyond_the_capacity_are_idle_and_it_says_so():
    strategy = tpe(SPACE, 4, capacity=6)
    ask, state, budgets = jax.jit(strategy.ask), strategy.init(jax.random.key(0)), []
    for _ in range(3):
        proposal, state = ask(jax.random.key(1), state)
        budgets.append((proposal.budget > 0).tolist())
        evaluation = mh.Evaluation(jnp.arange(4.0), None, jnp.ones(4, int))
        state = strategy.tell(jax.random.key(2), state, proposal, evaluation)
    assert budgets == [[True] * 4, [True, True, False, False], [False] * 4]
    np.testing.assert_array_equal(state.loss, [0, 1, 2, 3, 0, 1])
    assert state.told.all() and strategy.stop(state) == mh.base.StopReason.BUDGET
    result = jax.jit(searched(population=4, rounds=2, capacity=6))(jax.random.key(0))
    assert int((result.history.budget > 0).sum()) == 6
    with pytest.raises(ValueError, match="room for 2 rounds, the run makes 3"):
        searched(population=4, rounds=3, capacity=6)(jax.random.key(0))


AWKWARD = {
    "constant": lambda h: 0.0 * h["rate"],
    "never finite": lambda h: h["rate"] * jnp.nan,
    "mostly infinite": lambda h: jnp.where(h["width"] < 8, jnp.inf, loss_of(h)),
    "huge": lambda h: 1e38 * loss_of(h),
}


@pytest.mark.parametrize("fn", AWKWARD.values(), ids=AWKWARD)
@pytest.mark.filterwarnings("ignore")
def test_awkward_losses_do_no_harm(fn):
    result = jax.jit(searched(fn, population=4, rounds=15, capacity=60))(jax.random.key(0))
    unit = np.asarray(result.history.unit)
    assert np.isfinite(unit).all() and (unit >= 0).all() and (unit <= 1).all()
    assert len(np.unique(unit.reshape(-1, SIZE), axis=0)) > 20


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_duplicates_and_corners_do_no_harm(place):
    state = told_of(np.zeros(30))
    state = state._replace(unit=jnp.full_like(state.unit, place))
    unit = np.asarray(asked(state, KEYS, 3))
    assert np.isfinite(unit).all() and (unit >= 0).all() and (unit <= 1).all()


def test_one_evaluation_is_enough_to_go_on_from():
    assert np.isfinite(asked(told_of([1.0]), KEYS, 2, startup=1)).all()


@pytest.mark.parametrize("first", ["random", "sobol"])
def test_the_first_points_are_even_or_random(first):
    space = {"x": mh.Float(0.0, 1.0)}
    strategy = tpe(space, 4, capacity=16, startup=16, first=first)
    ask, state, points = jax.jit(strategy.ask), strategy.init(jax.random.key(0)), []
    for key in jax.random.split(jax.random.key(1), 4):
        proposal, state = ask(key, state)
        points.append(proposal.unit)
        state = strategy.tell(key, state, proposal, mh.Evaluation(jnp.zeros(4), None))
    cells = np.unique((16 * np.concatenate(points)).astype(int))
    assert (len(cells) == 16) == (first == "sobol")


def test_it_finds_more_than_random_search_from_sixty_evaluations():
    keys = jax.random.split(jax.random.key(0), 40)

    def best(make):
        def run(key):
            strategy, problem = make(SPACE, 1), mh.problems.function(loss_of)
            return mh.search(key, problem, SPACE, strategy, rounds=60, steps=1).best_loss

        return np.asarray(jax.jit(jax.vmap(run))(keys))

    ours, random = best(functools.partial(tpe, capacity=60)), best(mh.strategies.random)
    assert (ours < random).mean() > 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 0}, "tpe needs a population"),
        ({"population": 8, "capacity": 7}, "capacity must be a whole number of at least 8, got 7"),
        ({"startup": 0}, "startup must be a whole number of at least 1"),
        ({"candidates": 0}, "candidates must be a whole number of at least 1"),
        ({"first": "grid"}, "first must be one of"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tpe(SPACE, **{"population": 1, "capacity": 20, **options})
