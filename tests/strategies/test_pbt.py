"""Population based training: the paper's toy, what a round changes, and what it is robust to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import metahpo as mh
from metahpo.strategies import pbt

KEY = jax.random.key(0)
SPACE = {
    "act": mh.Choice(("a", "b", "c")),
    "lr": mh.Float(1e-4, 1.0, log=True),
    "width": mh.Int(1, 9),
}
ACT, LR, WIDTH = range(3)


def toy():
    """Jaderberg et al. 2017, figure 2: the true objective is not what a worker climbs.

    Maximise Q = 1.2 - theta_0^2 - theta_1^2 by gradient ascent on the surrogate
    1.2 - h_0 theta_0^2 - h_1 theta_1^2, from theta = (0.9, 0.9).
    """

    def init(key, hparams, task):
        return jnp.array([0.9, 0.9])

    def step(key, hparams, task, theta):
        return theta - 0.02 * 2 * jnp.stack([hparams["h0"], hparams["h1"]]) * theta

    def loss(key, hparams, task, theta):
        return -(1.2 - jnp.sum(theta**2))

    return mh.Problem(lambda key: None, init, step, loss, lambda task: jnp.zeros(0))


TOY_SPACE = {"h0": mh.Float(0.0, 1.0), "h1": mh.Float(0.0, 1.0)}
TOY_START = jnp.array([[1.0, 0.0], [0.0, 1.0]])  # each worker sees half of the problem


def without_exploitation():
    """Two workers that train on with the hyperparameters that they started with."""

    def ask(key, started):
        parent = jnp.where(started, jnp.arange(2), -1).astype(jnp.int32)
        budget = jnp.full(2, 10, jnp.int32)
        return mh.Proposal(TOY_START, parent, budget), jnp.ones((), bool)

    return mh.Strategy(lambda key: jnp.zeros((), bool), ask, lambda key, s, p, e: s)


def toy_quality(strategy, seeds):
    """Q of both workers in the end: ``f[seeds, 2]``."""

    @jax.jit
    @jax.vmap
    def run(key):
        result = mh.search(key, toy(), TOY_SPACE, strategy, rounds=40, steps=10)
        return -result.history.loss[-1]

    return run(jax.random.split(KEY, seeds))


def test_toy_of_the_paper_is_stuck_without_exploitation():
    quality = toy_quality(without_exploitation(), 1)
    np.testing.assert_allclose(quality, 1.2 - 0.9**2, atol=1e-3)  # Q = 0.39 for both


@pytest.mark.parametrize("selection", ["truncation", "tournament"])
def test_toy_of_the_paper_is_solved_by_exploitation(selection):
    quality = toy_quality(pbt(TOY_SPACE, 2, TOY_START, selection=selection), 20)
    assert quality.max(axis=1).min() >= 1.199  # for every seed; the optimum is 1.2


def told(strategy, losses, unit=None):
    """The units of a first round with these losses, and the proposal of the second."""

    @jax.jit
    def run(key):
        proposal, state = strategy.ask(key, strategy.init(key))
        if unit is not None:
            proposal = proposal._replace(unit=unit)
        evaluation = mh.Evaluation(jnp.asarray(losses), None, ())
        return proposal.unit, strategy.ask(key, strategy.tell(key, state, proposal, evaluation))[0]

    return jax.tree.map(np.asarray, run(KEY))


def test_the_next_round_trains_on_from_the_winner_or_from_oneself():
    before, after = told(pbt(SPACE, 4), [1.0, 0.0, 2.0, 3.0])
    np.testing.assert_array_equal(after.parent, [0, 1, 2, 1])
    np.testing.assert_array_equal(after.unit[:3], before[:3])
    assert not np.array_equal(after.unit[3], before[1])


def test_all_start_again_when_no_loss_is_finite():
    before, after = told(pbt(SPACE, 4), [jnp.nan, jnp.inf, -jnp.inf, jnp.nan])
    np.testing.assert_array_equal(after.parent, [-1, -1, -1, -1])
    assert not (after.unit == before).any()


def explored(population=2000, **options):
    """Units of the losers of one winner that stands at 1/2 everywhere: ``f[1000, D]``."""
    losses = jnp.arange(population) + 0.0
    unit = jnp.full((population, 3), 0.5)
    strategy = pbt(SPACE, population, truncation=0.5, **options)
    return told(strategy, losses, unit)[1].unit[population // 2 :]


def test_each_coordinate_of_each_loser_is_explored_by_itself():
    unit = explored(perturbation=0.1, resample_probability=0.25)
    distance = np.abs(unit - 0.5)
    for column in (LR, WIDTH):
        moved = (distance[:, column] >= 0.05) & (distance[:, column] <= 0.15)
        # Three quarters are moved, and a fifth of those drawn anew land there by chance.
        assert abs(moved.mean() - 0.8) < 5 * (0.16 / 1000) ** 0.5
        up = unit[moved, column] > 0.5
        assert abs(up.mean() - 0.5) < 5 * (0.25 / len(up)) ** 0.5
    kept = unit[:, ACT] == 0.5  # a choice is drawn anew or stays
    assert abs(kept.mean() - 0.75) < 5 * (0.1875 / 1000) ** 0.5
    # Independent by member and by dimension: no common factor, no common direction.
    assert len(np.unique(unit[:, [LR, WIDTH]], axis=0)) == 1000
    assert abs(np.corrcoef(unit[:, LR], unit[:, WIDTH])[0, 1]) < 5 / 1000**0.5


def test_frozen_dimensions_are_inherited_as_they_are():
    unit = explored(frozen=("width", "act"))
    assert (unit[:, [ACT, WIDTH]] == 0.5).all()
    assert (unit[:, LR] != 0.5).all()


@pytest.mark.parametrize("selection", ["truncation", "tournament"])
def test_constant_losses_cause_no_drift_and_no_loss_of_range(selection):
    space = {"lr": mh.Float(1e-4, 1.0, log=True), "x": mh.Float(-1.0, 1.0)}
    strategy = pbt(space, 8, selection=selection)

    @jax.jit
    @jax.vmap
    def run(key):
        problem = mh.problems.function(lambda h: jnp.float32(1.0))
        return mh.search(key, problem, space, strategy, rounds=30, steps=1).history.unit[-1, 0]

    unit = np.asarray(run(jax.random.split(KEY, 1000)))  # one member of each seed
    for column in unit.T:
        assert stats.kstest(column, "uniform").pvalue > 0.01


def test_moves_shrink_where_they_fail_and_grow_where_they_succeed():
    space = {f"x{i}": mh.Float(0.0, 1.0) for i in range(8)}
    strategy = pbt(space, 8)

    @jax.jit
    def last_scale(first_scale, slope):
        def step(state, key):
            proposal, state = strategy.ask(key, state)
            distance = jnp.abs(proposal.unit - 0.5).sum(axis=1)
            loss = distance + slope * proposal.unit.sum(axis=1)
            return strategy.tell(key, state, proposal, mh.Evaluation(loss, None, ())), None

        state = strategy.init(KEY)
        state = state._replace(unit=jnp.full_like(state.unit, 0.5), scale=first_scale)
        return jax.lax.scan(step, state, jax.random.split(KEY, 60))[0].scale

    assert last_scale(1.0, 0.0) < 0.1  # all start at the optimum
    assert last_scale(0.001, 10.0) > 0.05  # all start on a slope, where every second move succeeds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": 0.6}, r"truncation must be in \(0, 0.5\], got 0.6"),
        ({"truncation": 0.0}, r"truncation must be in \(0, 0.5\], got 0.0"),
        ({"resample_probability": -0.1}, r"resample_probability must be in \[0, 1\], got -0.1"),
        ({"perturbation": 0.9}, r"perturbation must be in \(0, 0.5\], got 0.9"),
        ({"selection": "roulette"}, "selection must be one of .*, got 'roulette'"),
        ({"factors": (1.2, 0.8)}, r"factors must be .* got \(1.2, 0.8\)"),
        ({"factors": (0.0, 1.2)}, r"factors must be .* got \(0.0, 1.2\)"),
        ({"frozen": ("depth",)}, "no dimension 'depth'; it has .*'act', 'lr', 'width'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        pbt(SPACE, 8, **options)
