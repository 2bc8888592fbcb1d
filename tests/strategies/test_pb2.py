"""Population based bandits: rewards, suggestions, the paper's toy and a drifting optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import metahpo as mh
from metahpo.strategies import pb2, pbt
from metahpo.strategies.along_training.pb2 import (
    LARGEST_REWARD,
    at_time,
    bandit,
    fitted,
    remember,
    standardised,
)
from metahpo.surrogates import gaussian_process as gp
from metahpo.surrogates.maximise import everywhere, suggestions

KEY = jax.random.key(0)
FLOATS = [mh.Float(0.0, 1.0)] * 2
KERNEL = bandit(len(FLOATS))


def test_rewards_are_standardised_and_failures_are_the_worst():
    values = jnp.array([1.0, 2.0, 3.0, -jnp.inf, jnp.nan])
    found = jax.jit(lambda v: standardised(v, -LARGEST_REWARD))(values)
    expected = [-(1.5**0.5), 0.0, 1.5**0.5, -LARGEST_REWARD, -LARGEST_REWARD]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for value in (0.0, 5.0, 1e30):  # no spread, no reward, no NaN
        np.testing.assert_array_equal(standardised(jnp.full(4, value), 0.0), 0.0)
    huge = standardised(jnp.array([1e30, -1e30, 1e20]), 0.0)
    np.testing.assert_allclose(huge, [1.5**0.5, -(1.5**0.5), 0.0], rtol=1e-5, atol=1e-9)


def test_a_full_ring_forgets_the_oldest_round():
    data = gp.empty(5, 4, jnp.float32)
    losses = [[3.0, 1.0], [2.0, 0.5], [0.5, 1.0]]
    for at, (before, loss) in enumerate(zip(losses, losses[1:], strict=False)):
        x = jnp.full((2, 2), at + 0.1)
        data = remember(data, jnp.int32(at), x, jnp.array(before), jnp.array(loss))
    assert data.mask.tolist() == [True] * 4 + [False]
    np.testing.assert_array_equal(data.x[:4, 2], [0, 0, 1, 1])
    np.testing.assert_allclose(data.y[:4], [1, -1, 1, -1], rtol=1e-6)  # gains 1, .5; 1.5, -.5
    np.testing.assert_allclose(data.x[:4, 3], [1, -1, 1, -1], rtol=1e-6)
    data = remember(data, jnp.int32(2), jnp.zeros((2, 2)), jnp.ones(2), jnp.ones(2))
    assert data.mask.all()
    np.testing.assert_array_equal(data.x[:, 2], [2, 0, 1, 1, 2])


def suggested(wanted, exploration, count=24, seeds=1):
    """Points for some members after rewards that peak at (0.7, 0.3)."""
    x = jax.random.uniform(jax.random.key(1), (count, 2))
    reward = 2 * jnp.exp(-jnp.sum((x - jnp.array([0.7, 0.3])) ** 2, axis=1) / 0.05) - 1
    data = gp.Observations(jnp.pad(x, ((0, 0), (0, 2))), reward, jnp.ones(count, bool))
    numbers = gp.Numbers(((0.25, 0.05), ()), 0.01)
    process = gp.posterior(KERNEL, numbers, gp.extended(data, len(wanted)))
    search = at_time(everywhere(FLOATS), jnp.int32(1))

    @jax.jit
    @jax.vmap
    def run(key):
        return suggestions(key, KERNEL, process, count, jnp.array(wanted), exploration, search)

    points = np.asarray(run(jax.random.split(KEY, seeds)))
    return points, lambda at: gp.predict(KERNEL, process, search.embed(jnp.asarray(at)))


def test_without_exploration_the_point_of_the_highest_mean_is_found():
    (points,), predicted = suggested([False, True], 0.0)
    grid = jnp.stack(jnp.meshgrid(*[jnp.linspace(0, 1, 101)] * 2), axis=-1).reshape(-1, 2)
    best = grid[jnp.argmax(predicted(grid)[0])]
    np.testing.assert_array_equal(points[0], 0.0)  # nobody asked for it
    np.testing.assert_allclose(points[1], best, atol=0.02)


@pytest.mark.slow
def test_suggestions_of_one_round_spread_because_the_pending_ones_are_known():
    def distances(points):
        return np.linalg.norm(points[:, None] - points, axis=-1)[~np.eye(len(points), dtype=bool)]

    alone = suggested([True], 3.0, seeds=6)[0][:, 0]
    assert np.median(distances(alone)) < 0.1  # each one alone would go to the same place
    (points,), predicted = suggested([True] * 6, 3.0)
    assert np.median(distances(points)) > 0.5
    assert ((points >= 0) & (points <= 1)).all()
    spread = jnp.sqrt(predicted(points)[1])
    assert (spread > 0.2).all()  # they explore


def test_even_without_exploration_losers_do_not_become_clones():
    points = suggested([True] * 5, 0.0)[0][0]
    assert len(np.unique(points, axis=0)) == 5


def test_a_kernel_is_kept_until_a_better_one_is_drawn():
    rng = np.random.default_rng(0)
    data = gp.empty(32, 4, jnp.float32)._replace(
        x=jnp.asarray(np.pad(rng.uniform(size=(32, 2)), ((0, 0), (0, 2))), jnp.float32),
        y=jnp.asarray(rng.normal(size=32), jnp.float32),
        mask=jnp.ones(32, bool),
    )
    numbers = gp.Numbers(((jnp.float32(1.0), jnp.float32(0.5)), ()), jnp.float32(0.01))
    evidences = []
    step = jax.jit(lambda key, numbers: fitted(key, numbers, data, 2))
    for key in jax.random.split(KEY, 12):
        evidences.append(float(gp.log_evidence(KERNEL, numbers, data)))
        numbers = step(key, numbers)
    assert (np.diff(evidences) >= 0).all()
    white = stats.norm.logpdf(np.asarray(data.y)).sum()  # the data are nothing but noise
    assert evidences[0] < white - 100
    assert evidences[-1] > white - 5


def climbing():
    """Jaderberg et al. 2017, figure 2: as in test_pbt.py, where no exploitation ends at 0.39."""

    def step(key, hparams, task, theta):
        return theta - 0.02 * 2 * hparams["h"] * theta

    return mh.Problem(
        lambda key: None,
        lambda key, hparams, task: jnp.array([0.9, 0.9]),
        step,
        lambda key, hparams, task, theta: jnp.sum(theta**2) - 1.2,
        lambda task: jnp.zeros(0),
    )


def test_toy_of_the_paper_is_solved():
    space = {"h": mh.Float(0.0, 1.0, shape=(2,))}
    strategy = pb2(space, 2, jnp.eye(2), window=16)

    @jax.jit
    @jax.vmap
    def quality(key):
        result = mh.search(key, climbing(), space, strategy, rounds=40, steps=10)
        return -result.history.loss[-1].min()

    assert quality(jax.random.split(KEY, 20)).min() >= 1.19  # for every seed; the optimum is 1.2


def drifting(period=60.0, width=0.3):
    """What a round gains depends on the distance from an optimum that goes round in 4-D."""

    def step(key, hparams, task, state):
        phase = 2 * jnp.pi * (state["t"] / period + jnp.arange(4) / 8)
        squares = jnp.sum((hparams["x"] - 0.5 - 0.35 * jnp.sin(phase)) ** 2)
        gain = jnp.exp(-squares / (2 * width**2))
        return {"t": state["t"] + 1, "gained": state["gained"] + gain}

    return mh.Problem(
        lambda key: None,
        lambda key, hparams, task: {"t": jnp.zeros(()), "gained": jnp.zeros(())},
        step,
        lambda key, hparams, task, state: -state["gained"],
        lambda task: jnp.zeros(0),
    )


@pytest.mark.slow
def test_a_drifting_optimum_is_followed_better_than_by_random_exploration_or_by_pbt():
    space = {"x": mh.Float(0.0, 1.0, shape=(4,))}

    def gained(strategy, seeds=12, rounds=30):
        @jax.jit
        @jax.vmap
        def run(key):
            result = mh.search(key, drifting(), space, strategy, rounds=rounds, steps=1)
            return -result.history.loss[-1].min()

        return np.asarray(run(jax.random.split(KEY, seeds)))

    bandit = gained(pb2(space, 8, window=32))
    for other in (pbt(space, 8, resample_probability=1.0), pbt(space, 8)):
        difference = mh.report.interval(bandit - gained(other))
        assert difference.mean - difference.half_width > 1.0


def test_choices_are_drawn_anew_and_frozen_dimensions_are_inherited():
    space = {
        "act": mh.Choice(("a", "b", "c", "d")),
        "lr": mh.Float(1e-4, 1.0, log=True),
        "width": mh.Int(1, 9),
    }
    population = 40
    strategy = pb2(
        space,
        population,
        window=40,
        truncation=0.5,
        resample_probability=0.4,
        frozen="width",
        trust_region=None,
    )

    @jax.jit
    @jax.vmap
    def second(key):
        proposal, state = strategy.ask(key, strategy.init(key))
        evaluation = mh.Evaluation(jnp.arange(population) + 0.0, None, ())
        after = strategy.ask(key, strategy.tell(key, state, proposal, evaluation))[0]
        return proposal.unit, after.unit, proposal.unit[after.parent]

    rounds = second(jax.random.split(KEY, 8))
    before, after, inherited = (np.asarray(a).reshape(8, 2, 20, 3) for a in rounds)
    np.testing.assert_array_equal(after[:, 0], before[:, 0])  # the winners go on
    losers, inherited = after[:, 1], inherited[:, 1]
    np.testing.assert_array_equal(losers[..., 2], inherited[..., 2])
    drawn = (losers[..., 0] != inherited[..., 0]).mean()
    assert abs(drawn - 0.4) < 5 * (0.24 / 160) ** 0.5
    assert (losers[..., 1] != inherited[..., 1]).all()
    assert len(np.unique(losers[..., 1])) == 160


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 7}, "window must be a whole number of at least 8, got 7"),
        ({"exploration": -1.0}, "exploration must be at least 0, got -1.0"),
        ({"selection": "roulette"}, "selection must be one of .*, got 'roulette'"),
        ({"truncation": 0.6}, r"truncation must be in \(0, 0.5\], got 0.6"),
        ({"frozen": ("x",)}, "pb2 needs a Float or an Int that is not frozen, got none"),
    ],
)
def test_impossible_options_are_refused(options, message):
    space = {"c": mh.Choice(("a", "b")), "x": mh.Float(0.0, 1.0)}
    with pytest.raises(ValueError, match=message):
        pb2(space, 8, **options)
