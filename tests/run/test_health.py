"""What a run says of its failures."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.run.health import health

KEY = jax.random.key(0)
SPACE = {"x": mh.Float(0.0, 1.0)}


def search_loop(bad):
    """A search in which the share ``bad`` of the candidates has no loss."""
    problem = mh.problems.function(lambda h: jnp.where(h["x"] < bad, jnp.nan, h["x"]))
    strategy = mh.strategies.random(SPACE, population=50)
    return mh.run.search_loop(problem, SPACE, strategy, rounds=4, steps=1)


def test_a_drive_says_how_many_candidates_were_not_finite(capsys):
    with pytest.warns(UserWarning, match=r"run: \d+ of 200 candidates not finite \(\d\d%\)"):
        mh.run.drive(search_loop(0.3), KEY)
    assert "of 200 candidates not finite" in capsys.readouterr().err


def test_a_few_failures_are_shown_and_not_warned_of(capsys):
    mh.run.drive(search_loop(0.02), KEY)
    assert "candidates not finite" in capsys.readouterr().err


def test_a_sound_run_says_nothing_of_it(capsys):
    mh.run.drive(search_loop(0.0), KEY)
    assert "not finite" not in capsys.readouterr().err


def test_updates_that_were_left_out_are_told(capsys):
    def loss(h):
        return jnp.where(h["x"] < 0.5, jnp.nan, h["x"])

    problem = mh.problems.function(loss)
    loop = mh.run.meta_loop(
        problem, mh.hypergrad.reverse(problem, 1), {"x": 1.0}, optax.sgd(0.1), rounds=20, tasks=1
    )
    with pytest.warns(UserWarning, match="15 of 20 updates left out"):
        mh.run.drive(loop, KEY)
    assert "mean loss" in capsys.readouterr().err


def test_the_loss_of_a_meta_training_is_the_mean_of_its_last_rounds():
    loss = np.arange(100.0)
    nothing = np.zeros(100, int)
    history = mh.run.MetaHistory(loss, np.zeros(100), np.zeros(100, bool), nothing, nothing)
    assert health(history, 100, lanes=False).value == loss[-20:].mean()
    assert health(history, 10, lanes=False).value == loss[:10].mean()
    many = jax.tree.map(lambda x: np.stack([x, x + 1]), history)
    assert health(many, 100, lanes=True).value == loss[-20:].mean() + 0.5


def test_tasks_that_were_left_out_are_told(capsys):
    problem = mh.problems.function(lambda h: h["x"])._replace(
        sample=lambda key: jax.random.uniform(key),
        loss=lambda key, h, task, state: jnp.where(task < 0.3, jnp.nan, h["x"]),
    )
    loop = mh.run.meta_loop(
        problem,
        mh.hypergrad.reverse(problem, 1),
        {"x": 1.0},
        optax.sgd(0.1),
        rounds=20,
        tasks=10,
        on_divergence="leave_out",
    )
    with pytest.warns(UserWarning, match=r"\d+ of 200 tasks left out \(\d\d%\)"):
        mh.run.drive(loop, KEY)
    assert "tasks left out" in capsys.readouterr().err


# A search in which nothing was finite.
MIXED = {"kind": mh.Choice(("a", "b")), "n": mh.Int(2, 9), "x": mh.Float(1.0, 2.0)}


def nothing_finite(run):
    problem = mh.problems.function(lambda h: jnp.nan * (h["x"] + h["n"] + h["kind"]))
    return run(problem, mh.strategies.random(MIXED, population=4))


def test_a_search_in_which_nothing_was_finite_returns_no_bound_and_says_so():
    def searched(problem, strategy):
        return mh.search(KEY, problem, MIXED, strategy, rounds=2, steps=1)

    with pytest.warns(UserWarning, match="search: no loss of any candidate was finite"):
        result = nothing_finite(searched)
    assert result.best_loss == jnp.inf and jnp.isnan(result.best_unit).all()
    assert jnp.isnan(result.best_hparams["x"])
    inside = jax.jit(lambda: nothing_finite(searched))()
    assert jnp.isnan(inside.best_hparams["x"])


def test_one_of_many_searches_in_which_nothing_was_finite_is_told():
    # Each run has a task of its own, and one task has no loss.
    problem = mh.problems.function(lambda h: 0.0)._replace(
        sample=lambda key: jax.random.uniform(key),
        loss=lambda key, h, task, state: jnp.where(task < 0.5, jnp.nan, h["x"]),
    )
    strategy = mh.strategies.random(SPACE, population=4)
    loop = mh.run.search_loop(problem, SPACE, strategy, rounds=2, steps=1)
    with pytest.warns(UserWarning, match=r"no loss of any candidate was finite in \d of 8 runs"):
        result = mh.run.drive(loop, jax.random.split(KEY, 8), progress=False)
    lost = ~np.isfinite(result.best_loss)
    assert (np.isnan(result.best_hparams["x"]) == lost).all() and 0 < lost.sum() < 8


def test_a_minimisation_in_which_nothing_was_finite_says_so():
    strategy = mh.strategies.random(SPACE, population=4)
    with pytest.warns(UserWarning, match="minimize: no loss of any candidate was finite"):
        result = mh.minimize(lambda h: float("inf"), SPACE, strategy, rounds=2, progress=False)
    assert result.best_loss == float("inf")
