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


def searched(fn=loss_of, population=1, rounds=60, make=tpe, **options):
    def run(key):
        strategy = make(SPACE, population, **options)
        problem = mh.problems.function(fn)
        return mh.search(key, problem, SPACE, strategy, rounds=rounds, steps=1)

    return run


CAPACITY = 46
KEYS = jax.random.split(jax.random.key(2), 10)


def told_of(loss):
    """The state after evaluations with these losses at random points."""
    count = len(loss)
    unit, losses = np.zeros((CAPACITY, SIZE), "f4"), np.full(CAPACITY, np.inf, "f4")
    unit[:count] = jax.random.uniform(jax.random.key(5), (30, SIZE))[:count]
    losses[:count] = loss
    told = np.arange(CAPACITY) < count
    pending, first = np.zeros(CAPACITY, bool), np.zeros((1, SIZE), "f4")
    return TPEState(unit, losses, told, pending, np.int32(count), first, None)


@functools.cache
def program(population):
    strategy = tpe(SPACE, population, capacity=CAPACITY, startup=1)
    return jax.jit(jax.vmap(lambda key, state: strategy.ask(key, state)[0].unit, (0, None)))


def asked(state, keys, population=1):
    """The points ``[K, P, D]`` that are asked for next under every key."""
    return np.asarray(program(population)(keys, state))


SIXTY = functools.partial(tpe, capacity=60)


@functools.cache
def forty_searches(make):
    return jax.jit(jax.vmap(searched(make=make)))(jax.random.split(jax.random.key(0), 40))


@pytest.mark.slow
def test_the_same_search_in_every_capacity():
    keys = jax.random.split(jax.random.key(0), 40)[:4]
    for capacity in (61, 200):
        found = jax.jit(jax.vmap(searched(capacity=capacity)))(keys).history.unit
        np.testing.assert_allclose(found, forty_searches(SIXTY).history.unit[:4], atol=1e-5)


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
    # Empty slots change what is drawn, though not from what.
    padded = np.zeros((25, SIZE), "f4")
    padded[:3] = state.unit[best]

    @functools.partial(jax.vmap, in_axes=(0, None, None))
    def highest(key, good, others):
        low = parzen.fitted(dims, good, jnp.arange(25) < 3)
        high = parzen.fitted(dims, others, jnp.ones(27, bool))
        (key,) = jax.random.split(jax.random.split(key)[1], 1)
        points = parzen.drawn(key, dims, low, 24)
        score = parzen.log_density(dims, low, points) - parzen.log_density(dims, high, points)
        return points[jnp.argmax(score)]

    expected = jax.jit(highest)(KEYS, padded, state.unit[rest])
    np.testing.assert_allclose(unit[:, 0], expected, atol=1e-6)


def test_the_number_of_good_ones_is_optunas():
    sampler = pytest.importorskip("optuna.samplers._tpe.sampler")
    assert [good_count(n) for n in range(400)] == [sampler.default_gamma(n) for n in range(400)]


def test_the_number_of_good_ones_is_a_tenth_rounded_up():
    assert [good_count(n) for n in (0, 1, 10, 11, 30, 31, 250, 251)] == [0, 1, 1, 2, 3, 4, 25, 25]


@pytest.mark.slow
def test_what_is_asked_and_not_told_is_kept_away_from():
    """Members of one round differ more than points that do not know of one another."""
    state = told_of(np.linspace(0, 1, 20))
    together = asked(state, KEYS, 16)
    keys = jax.random.split(jax.random.key(3), 160).reshape(16, 10)
    alone = np.concatenate([asked(state, some) for some in keys]).reshape(10, 16, SIZE)

    def apart(unit):
        return np.abs(unit[:, :, None, 1] - unit[:, None, :, 1]).mean()

    assert apart(together) > 1.1 * apart(alone)


@functools.cache
def small(first):
    """``ask`` and ``tell`` of a strategy that is out of slots before it fits a density."""
    strategy = tpe(SPACE, 4, capacity=18, startup=18, first=first)
    return strategy._replace(ask=jax.jit(strategy.ask), tell=jax.jit(strategy.tell))


def evaluated(losses, steps=(1, 1, 1, 1)):
    return mh.Evaluation(np.array(losses, "f4"), None, np.array(steps))


def test_tells_may_come_late_and_in_part():
    strategy = small("random")
    state = strategy.init(jax.random.key(0))
    first, state = strategy.ask(jax.random.key(1), state)
    second, state = strategy.ask(jax.random.key(2), state)
    evaluation = evaluated([1, np.inf, 3, np.inf], [1, 0, 1, 0])
    state = strategy.tell(jax.random.key(3), state, second, evaluation)
    np.testing.assert_array_equal(np.flatnonzero(state.told), [4, 6])
    state = strategy.tell(jax.random.key(3), state, first, evaluated(range(4)))
    np.testing.assert_array_equal(np.flatnonzero(state.told), [0, 1, 2, 3, 4, 6])
    np.testing.assert_array_equal(state.loss[:8], [0, 1, 2, 3, 1, np.inf, 3, np.inf])


def test_nobody_waits_for_idle_slots():
    strategy = small("random")
    proposal, state = strategy.ask(jax.random.key(1), strategy.init(jax.random.key(0)))
    np.testing.assert_array_equal(np.flatnonzero(state.pending), range(4))
    shrunk = proposal._replace(budget=np.array([1, 1, 0, 0], "i4"))
    state = strategy.tell(jax.random.key(2), state, shrunk, evaluated([1, 2, 3, 4], [1, 0, 0, 0]))
    np.testing.assert_array_equal(np.flatnonzero(state.told), [0])
    np.testing.assert_array_equal(np.flatnonzero(state.pending), [1])


def test_slots_beyond_the_capacity_are_idle_and_it_says_so():
    strategy, budgets = small("random"), []
    state = strategy.init(jax.random.key(0))
    for _ in range(6):
        proposal, state = strategy.ask(jax.random.key(1), state)
        budgets.append((np.asarray(proposal.budget) > 0).tolist())
        state = strategy.tell(jax.random.key(2), state, proposal, evaluated(range(4)))
    assert budgets == [[True] * 4] * 4 + [[True, True, False, False], [False] * 4]
    np.testing.assert_array_equal(state.loss, [0, 1, 2, 3] * 4 + [0, 1])
    assert state.told.all() and strategy.stop(state) == mh.base.StopReason.BUDGET
    with pytest.raises(ValueError, match="room for 2 rounds, the run makes 3"):
        jax.eval_shape(searched(population=4, rounds=3, capacity=6), jax.random.key(0))


AWKWARD = {
    "constant": lambda h: 0.0 * h["rate"],
    "never finite": lambda h: h["rate"] * jnp.nan,
    "mostly infinite": lambda h: jnp.where(h["width"] < 8, jnp.inf, loss_of(h)),
    "huge": lambda h: 1e38 * loss_of(h),
}


@functools.cache
def awkward_program():
    """Of all awkward losses, in a run with fewer slots than members."""

    def run(which):
        def fn(h):
            return jax.lax.switch(which, list(AWKWARD.values()), h)

        return searched(fn, population=4, rounds=15, capacity=58)(jax.random.key(0))

    return jax.jit(run)


@pytest.mark.parametrize("which", range(len(AWKWARD)), ids=AWKWARD)
@pytest.mark.filterwarnings("ignore")
def test_awkward_losses_do_no_harm(which):
    result = awkward_program()(which)
    unit = np.asarray(result.history.unit)
    assert np.isfinite(unit).all() and (unit >= 0).all() and (unit <= 1).all()
    assert len(np.unique(unit.reshape(-1, SIZE), axis=0)) > 20
    assert int((result.history.budget > 0).sum()) == 58


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_duplicates_and_corners_do_no_harm(place):
    state = told_of(np.zeros(30))
    state = state._replace(unit=np.full_like(state.unit, place))
    unit = asked(state, KEYS, 16)
    assert np.isfinite(unit).all() and (unit >= 0).all() and (unit <= 1).all()


def test_one_evaluation_is_enough_to_go_on_from():
    assert np.isfinite(asked(told_of([1.0]), KEYS, 16)).all()


@pytest.mark.parametrize("first", ["random", "sobol"])
def test_the_first_points_are_even_or_random(first):
    strategy, points = small(first), []
    state = strategy.init(jax.random.key(0))
    for key in jax.random.split(jax.random.key(1), 4):
        proposal, state = strategy.ask(key, state)
        points.append(proposal.unit)
        state = strategy.tell(key, state, proposal, evaluated([0.0] * 4))
    rate = np.concatenate(points)[:, list(mh.space.dimensions(SPACE)).index("rate")]
    cells = np.unique((16 * rate).astype(int))
    assert (len(cells) == 16) == (first == "sobol")


def test_it_finds_more_than_random_search_from_sixty_evaluations():
    ours, random = (forty_searches(make).best_loss for make in (SIXTY, mh.strategies.random))
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
