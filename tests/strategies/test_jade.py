"""JADE: its adaptation against NumPy, its run lengths against minionpy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from minionpy_oracle import SPACE, medians, oracle

import metahpo as mh
from metahpo.strategies import jade

KEY = jax.random.key(0)
PLANE = {"x": mh.Float(0.0, 1.0, shape=(2,))}


def round_of(strategy):
    """``(key, state, losses) -> (proposal, asked, told)``."""

    @jax.jit
    def run(key, state, loss):
        proposal, asked = strategy.ask(key, state)
        return proposal, asked, strategy.tell(key, asked, proposal, mh.Evaluation(loss, None, ()))

    return run


@pytest.mark.parametrize("mean", ["lehmer", "arithmetic"])
def test_means_follow_the_parameters_that_succeeded(mean):
    strategy = jade(PLANE, 6, weight_mean=mean, learning_rate=0.2)
    run = round_of(strategy)
    _, _, state = run(KEY, strategy.init(KEY), jnp.array([1.0, 2.0, 3.0, jnp.inf, jnp.nan, 6.0]))
    np.testing.assert_array_equal(state.loss, [1, 2, 3, np.inf, np.inf, 6])
    assert state.mean_weight == state.mean_rate == 0.5  # the first round teaches nothing
    assert state.archive.size == 0

    losses = jnp.array([0.5, 2.0, 2.5, 9.0, jnp.nan, 7.0])
    proposal, asked, new = run(jax.random.key(1), state, losses)
    won = np.array([True, False, True, True, False, False])  # a tie is no success
    f, cr = np.asarray(proposal.note.weight)[won], np.asarray(proposal.note.rate)[won]
    centre = (f**2).sum() / f.sum() if mean == "lehmer" else f.mean()
    np.testing.assert_allclose(new.mean_weight, 0.8 * 0.5 + 0.2 * centre, rtol=1e-6)
    np.testing.assert_allclose(new.mean_rate, 0.8 * 0.5 + 0.2 * cr.mean(), rtol=1e-6)
    expected = np.where(won[:, None], proposal.unit, state.unit)
    np.testing.assert_array_equal(new.unit, expected)
    np.testing.assert_array_equal(new.loss, [0.5, 2.0, 2.5, 9.0, np.inf, 6.0])
    assert new.archive.size == 3
    np.testing.assert_array_equal(new.archive.unit[:3], np.asarray(state.unit)[won])


def test_nothing_changes_on_a_plateau():
    strategy = jade(PLANE, 6)
    run = round_of(strategy)
    for level in (1.0, jnp.inf):
        _, _, first = run(KEY, strategy.init(KEY), jnp.full(6, level))
        _, asked, after = run(jax.random.key(1), first, jnp.full(6, level))
        jax.tree.map(
            np.testing.assert_array_equal, after._replace(round=1), asked._replace(round=1)
        )


def test_without_archive_it_runs_and_keeps_none():
    strategy = jade(SPACE, 12, archive_rate=0.0)
    problem = mh.problems.function(lambda h: jnp.sum((h["x"] - 1.2) ** 2))
    result = jax.jit(lambda key: mh.search(key, problem, SPACE, strategy, rounds=300, steps=1))(KEY)
    assert result.best_loss < 1e-3


def test_default_population_is_the_sources():
    for dimension, population in [(2, 30), (10, 30), (30, 100), (100, 400)]:
        strategy = jade({"x": mh.Float(0.0, 1.0, shape=(dimension,))})
        assert jax.eval_shape(strategy.init, KEY).unit.shape == (population, dimension)


@pytest.mark.optimised
@pytest.mark.slow
def test_evaluations_to_the_target_are_minionpys():
    with jax.enable_x64(True):
        strategy = jade(SPACE, 30, weight_mean="arithmetic")  # as minionpy has it
        ratio = medians(strategy, rounds=780, runs=31) / oracle("JADE")
    np.testing.assert_allclose(ratio, 1.0, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"best_share": 1.5}, r"best_share must be in \(0, 1\], got 1.5"),
        ({"learning_rate": -0.1}, r"learning_rate must be in \[0, 1\], got -0.1"),
        ({"archive_rate": -1.0}, "archive_rate must not be negative, got -1.0"),
        ({"weight_mean": "median"}, "weight_mean must be one of .*, got 'median'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jade(PLANE, 8, **options)
