"""Numbers with a step: both bounds and what lies between."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh

SPACE = {"dropout": mh.Float(0.0, 0.9, step=0.1), "batch": mh.Int(32, 512, step=32)}
UNIT = np.linspace(0, 1, 2001)


@pytest.mark.parametrize("name", SPACE)
def test_every_step_has_an_equal_share_and_both_ends_are_there(name):
    dim = SPACE[name]
    values = np.asarray(jax.vmap(dim.decode)(UNIT[:-1] + 1e-5), float).round(6)
    found, counts = np.unique(values, return_counts=True)
    count = round((dim.high - dim.low) / dim.step) + 1
    np.testing.assert_allclose(found, dim.low + dim.step * np.arange(count), rtol=1e-6)
    assert counts.max() - counts.min() <= 1


def test_values_come_back():
    for unit in UNIT[::50]:
        hparams = mh.space.decode(SPACE, jnp.array([unit, 1 - unit]))
        again = mh.space.decode(SPACE, mh.space.encode(SPACE, hparams))
        jax.tree.map(np.testing.assert_array_equal, again, hparams)
        mh.space.check(SPACE, mh.space.readable(SPACE, hparams))


def test_readable_values_are_those_that_one_writes():
    hparams = mh.space.decode(SPACE, jnp.array([0.5, 0.35]))
    assert mh.space.readable(SPACE, hparams) == {"batch": 288, "dropout": 0.3}


def test_strategies_see_whole_numbers():
    assert not mh.space.is_continuous(SPACE).any()
    assert mh.space.dimensions(SPACE) == {"batch": mh.Int(0, 15), "dropout": mh.Int(0, 9)}
    assert [len(t) for t in mh.space.thresholds(SPACE)] == [15, 9]


@pytest.mark.parametrize("name", ["cma_es", "differential_evolution", "pso", "genetic", "pbt"])
def test_a_search_finds_the_best_step(name):
    problem = mh.problems.function(
        lambda h: (h["dropout"] - 0.32) ** 2 + (h["batch"] / 32 - 5.1) ** 2
    )
    strategy = getattr(mh.strategies, name)(SPACE, 16)
    run = jax.jit(lambda key: mh.search(key, problem, SPACE, strategy, rounds=30, steps=1))
    best = mh.space.readable(SPACE, run(jax.random.key(0)).best_hparams)
    assert best == {"batch": 160, "dropout": 0.3}


@pytest.mark.parametrize(("make", "rule"), [
    (lambda: mh.Float(0.0, 1.0, step=0.3), "whole steps must lead from low to high"),
    (lambda: mh.Float(0.1, 1.0, log=True, step=0.1), "needs a linear scale"),
    (lambda: mh.Float(0.0, 1.0, step=0.0), "a step must be positive"),
    (lambda: mh.Int(0, 10, step=3), "whole steps must lead from low to high"),
    (lambda: mh.Int(0, 10, step=2.5), "the step of an Int must be a whole number"),
])  # fmt: skip
def test_impossible_steps_are_refused(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()


def test_a_value_between_steps_is_refused():
    with pytest.raises(ValueError, match=r"batch must be 32 and steps of 32, got 33"):
        mh.space.check(SPACE, {"batch": 33, "dropout": 0.3})
