"""What a strategy begins with: hyperparameters, lists of them, or points of the unit cube."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_table import POPULATION, SPACE, TABLE, WARM

import metahpo as mh
from metahpo.strategies.parts import check_initial

SMALL = {"rate": mh.Float(1e-4, 1.0, log=True), "n": mh.Int(1, 4), "kind": mh.Choice(("a", "b"))}
POINT = {"rate": 1e-2, "n": 3, "kind": "b"}


def best(unit):
    return mh.space.decode(SPACE, jnp.asarray(unit))


@pytest.mark.parametrize("name", WARM, scope="module")
def test_every_strategy_evaluates_hyperparameters_that_it_is_given(name):
    unit = np.linspace(0.2, 0.7, mh.space.size(SPACE))
    hparams = best(unit)
    strategy = TABLE[name].make(SPACE, POPULATION, initial=hparams)
    asked = strategy.ask(jax.random.key(1), strategy.init(jax.random.key(0)))[0].unit
    wanted = mh.space.encode(SPACE, hparams)
    assert np.isclose(asked, wanted, atol=1e-5).all(1).any()


@pytest.mark.parametrize(
    "given",
    [
        POINT,
        [POINT],
        {"rate": np.float32(1e-2), "n": np.int32(3), "kind": jnp.int32(1)},
        [[0.75, 0.625, 0.5]],
        np.array([[0.75, 0.625, 0.5]]),
    ],
)
def test_one_point_may_be_written_in_many_ways(given):
    np.testing.assert_allclose(check_initial(SMALL, 2, given), [[0.75, 0.625, 0.5]], atol=1e-6)


def test_several_points_come_in_their_order():
    found = check_initial(SMALL, 2, [POINT, POINT | {"n": 1}])
    np.testing.assert_allclose(found[:, 1], [0.625, 0.125])


def test_spaces_that_are_lists_or_leaves_are_understood():
    pair = [mh.Float(0.0, 2.0), mh.Float(0.0, 4.0)]
    np.testing.assert_allclose(check_initial(pair, 2, [1.0, 1.0]), [[0.5, 0.25]])
    np.testing.assert_allclose(check_initial(pair, 2, [[1.0, 1.0], [2.0, 4.0]])[1], [1.0, 1.0])
    np.testing.assert_allclose(check_initial(mh.Float(0.0, 2.0), 2, [1.0, 2.0]), [[0.5], [1.0]])


def test_a_bound_stays_in_the_cube():
    space = {"x": mh.Float(0.1, 0.7, log=True)}
    assert float(check_initial(space, 1, {"x": 0.7})[0, 0]) <= 1.0


def test_traced_hyperparameters_become_points():
    found = jax.jit(lambda rate: check_initial(SMALL, 1, POINT | {"rate": rate}))(1e-2)
    np.testing.assert_allclose(found, [[0.75, 0.625, 0.5]], atol=1e-6)


def test_the_best_of_one_run_starts_another():
    first = mh.minimize(
        lambda h: h["rate"] + h["n"],
        SMALL,
        mh.strategies.random(SMALL, 8),
        rounds=2,
        progress=False,
    )
    strategy = mh.strategies.snes(SMALL, 4, first.best_hparams)
    second = mh.minimize(lambda h: h["rate"] + h["n"], SMALL, strategy, rounds=1, progress=False)
    assert second.best_loss <= first.best_loss * (1 + 1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 2.0, "n": 3, "kind": "b"}, r"rate must be in \[0.0001, 1.0\], got 2.0"),
        ([POINT, POINT | {"kind": "c"}], r"kind must be one of \('a', 'b'\)"),
        ({"rate": 0.1}, "do not match the space"),
        ([POINT, {"rate": 0.1}], "do not match the space"),
        ([POINT] * 3, "initial has 3 points, more than the population 2"),
        (0.5, "do not match the space"),
        ([0.5, 0.5, 0.5], r"or points of the shape \[K, 3\], got the shape \(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        check_initial(SMALL, 2, given)
