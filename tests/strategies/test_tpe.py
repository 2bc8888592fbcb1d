"""TPE: its split, its memory, the constant liar, and awkward losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.strategies import tpe
from metahpo.strategies.bayesian.tpe import EMPTY, Trials, with_room
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


def trials_of(loss, capacity=None):
    loss = jnp.asarray(loss, float)
    count, capacity = len(loss), capacity or len(loss)
    spare = capacity - count
    unit = jax.random.uniform(jax.random.key(5), (count, SIZE))
    return Trials(
        jnp.append(jnp.arange(count, dtype=jnp.int32), jnp.full(spare, EMPTY, jnp.int32)),
        jnp.concatenate([unit, jnp.zeros((spare, SIZE))]),
        jnp.append(loss, jnp.full(spare, jnp.inf)),
        jnp.arange(capacity) < count,
    )


def asked(trials, population=1, key=None, **options):
    capacity = len(trials.number)
    strategy = tpe(SPACE, population, capacity=capacity, **options)
    state = strategy.init(jax.random.key(1))
    count = (trials.number < EMPTY).sum()
    state = state._replace(trials=trials, asked=count.astype(jnp.int32))
    return strategy.ask(jax.random.key(2) if key is None else key, state)


def test_the_same_search_in_every_capacity():
    runs = [
        jax.jit(searched(capacity=capacity))(jax.random.key(0)).history.unit
        for capacity in (60, 61, 200)
    ]
    for other in runs[1:]:
        np.testing.assert_allclose(other, runs[0], atol=1e-5)


def test_it_proposes_the_candidate_of_the_highest_ratio_of_the_densities_of_the_best_tenth():
    """By hand: of 30 evaluations the best three, of which one is that of a tie that came first."""
    loss = np.random.default_rng(0).permutation(30).astype(float)
    loss[[4, 9]] = 1.5  # beside 0 and 1
    loss[20] = np.nan
    losses = np.where(np.isfinite(loss), loss, np.inf)
    trials = trials_of(losses)
    proposal, state = asked(trials)
    best = np.sort(np.argsort(losses, kind="stable")[:3])
    assert 4 in best and 9 not in best or losses[best].max() <= 1
    rest = np.setdiff1d(np.arange(30), best)
    # A round of one forgets nothing here but the oldest of the rest.
    rest = rest[1:]
    dims = list(mh.space.dimensions(SPACE).values())
    low, high = (
        parzen.fitted(dims, trials.unit[chosen], jnp.ones(len(chosen), bool))
        for chosen in (best, rest)
    )
    key = jax.random.split(jax.random.split(jax.random.key(2))[1], 1)[0]
    points = parzen.drawn(key, dims, low, 24)
    score = parzen.log_density(dims, low, points) - parzen.log_density(dims, high, points)
    np.testing.assert_allclose(proposal.unit[0], points[jnp.argmax(score)], atol=1e-6)
    assert state.trials.told.sum() == 29


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 30, 31, 250, 400])
def test_the_number_of_good_ones_is_optunas(count):
    sampler = pytest.importorskip("optuna.samplers._tpe.sampler")
    capacity = 400
    trials = trials_of(np.arange(count, dtype=float), capacity)
    seen = []
    original = parzen.fitted

    def watched(dims, unit, mask):
        seen.append(mask)
        return original(dims, unit, mask)

    strategy = tpe(SPACE, 1, capacity=capacity)
    state = strategy.init(jax.random.key(0))._replace(trials=trials)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parzen, "fitted", watched)
        strategy.ask(jax.random.key(0), state)
    assert int(seen[0].sum()) == sampler.default_gamma(count)


def test_what_is_asked_and_not_told_is_kept_away_from():
    """Members of one round differ more than points that do not know of one another."""
    trials = trials_of(np.linspace(0, 1, 20), capacity=60)

    def apart(unit):
        rate = np.sort(np.asarray(unit)[:, 1])
        return np.diff(rate).mean()

    keys = jax.random.split(jax.random.key(3), 20)
    together = [apart(asked(trials, 16, key)[0].unit) for key in keys]
    alone = [
        apart(np.concatenate([asked(trials, 1, k)[0].unit for k in jax.random.split(key, 16)]))
        for key in keys
    ]
    assert np.mean(together) > 1.1 * np.mean(alone)


def test_tells_may_come_late_and_in_part():
    strategy = tpe(SPACE, 4, capacity=20)
    state = strategy.init(jax.random.key(0))
    first, state = strategy.ask(jax.random.key(1), state)
    second, state = strategy.ask(jax.random.key(2), state)
    evaluation = mh.Evaluation(
        jnp.array([1.0, jnp.inf, 3.0, jnp.inf]), None, jnp.array([1, 0, 1, 0])
    )
    state = strategy.tell(jax.random.key(3), state, second, evaluation)
    np.testing.assert_array_equal(np.flatnonzero(state.trials.told), [4, 6])
    late = mh.Evaluation(jnp.arange(4.0), None, jnp.ones(4, int))
    state = strategy.tell(jax.random.key(3), state, first, late)
    np.testing.assert_array_equal(np.flatnonzero(state.trials.told), [0, 1, 2, 3, 4, 6])
    np.testing.assert_array_equal(state.trials.loss[:8], [0, 1, 2, 3, 1, np.inf, 3, np.inf])


def test_the_oldest_that_are_not_among_the_best_are_forgotten():
    trials = trials_of([0.0, 5.0, 4.0, 1.0, 3.0, 2.0], capacity=7)
    good = jnp.array([True, False, False, True, False, False, False])
    told = trials.told.at[2].set(False)
    left = with_room(trials._replace(told=told), 3, good)
    np.testing.assert_array_equal(left.number, [0, 2, 3, 5, EMPTY, EMPTY, EMPTY])
    np.testing.assert_array_equal(left.loss[:4], [0, 4, 1, 2])
    np.testing.assert_array_equal(left.unit[:4], trials.unit[jnp.array([0, 2, 3, 5])])
    np.testing.assert_array_equal(left.told, [True, False, True, True, False, False, False])
    assert (with_room(trials, 7, good).number == EMPTY).all()


def test_a_longer_run_than_its_capacity_goes_on_improving():
    keys = jax.random.split(jax.random.key(0), 8)
    run = jax.jit(jax.vmap(searched(rounds=200, capacity=50)))
    losses = np.asarray(run(keys).history.loss)[..., 0]
    assert np.median(losses[:, 150:].min(axis=1)) < np.median(losses[:, :50].min(axis=1))


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


@pytest.mark.parametrize("unit", [0.0, 0.5, 1.0])
def test_duplicates_and_corners_do_no_harm(unit):
    trials = trials_of(np.zeros(30))
    trials = trials._replace(unit=jnp.full_like(trials.unit, unit))
    for key in jax.random.split(jax.random.key(0), 5):
        point = np.asarray(asked(trials, 3, key)[0].unit)
        assert np.isfinite(point).all() and (point >= 0).all() and (point <= 1).all()


def test_one_evaluation_is_enough_to_go_on_from():
    trials = trials_of([1.0], capacity=5)
    unit = asked(trials, 2, startup=1)[0].unit
    assert np.isfinite(unit).all()


@pytest.mark.parametrize("first", ["random", "sobol"])
def test_the_first_points_are_even_or_random(first):
    space = {"x": mh.Float(0.0, 1.0)}
    strategy = tpe(space, 4, capacity=16, startup=16, first=first)
    state, points = strategy.init(jax.random.key(0)), []
    for key in jax.random.split(jax.random.key(1), 4):
        proposal, state = strategy.ask(key, state)
        points.append(proposal.unit)
        state = strategy.tell(key, state, proposal, mh.Evaluation(jnp.zeros(4), None))
    cells = np.unique((16 * np.concatenate(points)).astype(int))
    assert (len(cells) == 16) == (first == "sobol")


def test_it_finds_more_than_random_search_from_sixty_evaluations():
    keys = jax.random.split(jax.random.key(0), 40)

    def best(make):
        problem = mh.problems.function(loss_of)
        run = lambda key: (
            mh.search(  # noqa: E731
                key, problem, SPACE, make(SPACE, 1), rounds=60, steps=1
            ).best_loss
        )
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
        tpe(SPACE, **{"population": 1, **options})
