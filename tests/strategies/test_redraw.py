"""Integers and choices that are drawn anew, and the mean that follows what proved best."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.base import Evaluation
from metahpo.strategies import redraw, snes

SPACE = {
    "a": mh.Choice(("x", "y", "z"), shape=(2,)),
    "b": mh.Choice((False, True)),
    "n": mh.Int(1, 9),
    "x": mh.Float(0.0, 1.0),
}


def test_columns_of_integers_and_of_choices_among_more_than_two():
    np.testing.assert_array_equal(redraw.discrete(SPACE), [0, 1, 2, 3])
    np.testing.assert_array_equal(redraw.unordered(SPACE), [0, 1])


def test_coordinates_are_drawn_anew_at_the_rate_uniformly_and_independently():
    columns, rate, count = np.array([0, 2]), 0.1, 50_000
    unit, drawn = jax.jit(lambda key: redraw.redraw(key, jnp.full((count, 3), 0.7), columns, rate))(
        jax.random.key(0)
    )
    unit, drawn = np.asarray(unit), np.asarray(drawn)
    np.testing.assert_array_equal(unit[:, 1], np.float32(0.7))
    np.testing.assert_array_equal(unit[:, columns] != np.float32(0.7), drawn)
    # Five standard deviations of a binomial share.
    np.testing.assert_allclose(drawn.mean(0), rate, atol=0.0067)
    assert drawn.all(1).mean() == pytest.approx(rate**2, abs=0.0023)
    tenths = np.histogram(unit[:, columns][drawn], 10, (0.0, 1.0))[0] / drawn.sum()
    np.testing.assert_allclose(tenths, 0.1, atol=0.015)


def test_trials_meet_about_four_redraws_and_at_most_a_quarter_of_them_is_disturbed():
    assert redraw.default_rate(20, 10, 8) == pytest.approx(4 / 200)
    assert redraw.default_rate(4, 2, 1) == pytest.approx(1 / 4)
    trials, columns = jnp.full((20, 10), 0.5), np.arange(8)
    changed = jax.jit(
        jax.vmap(lambda key: (redraw.mutated(key, trials, columns) != 0.5).sum((0, 1)))
    )(jax.random.split(jax.random.key(0), 5000))
    # 160 coordinates at 0.02: five standard deviations of the mean of 5,000 draws.
    assert np.mean(changed) == pytest.approx(3.2, abs=0.13)


def test_a_key_is_split_only_for_columns():
    key = jax.random.key(0)
    same, unused = redraw.keys(key, np.array([], int))
    assert same is key and unused is key
    first, second = redraw.keys(key, np.array([1]))
    assert len({jax.random.key_data(k).tobytes() for k in (key, first, second)}) == 3


def test_without_columns_nothing_happens():
    unit = jnp.full((4, 2), 0.5)
    same, drawn = redraw.redraw(jax.random.key(0), unit, np.array([], int), 0.5)
    assert same is unit
    assert drawn.shape == (4, 0)
    mean = jnp.zeros(2)
    assert redraw.follow(mean, unit, np.array([], int), drawn, jnp.arange(4.0)) is mean


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ([3.0, 1.0, 2.0], [0.6, 0.5, 0.5]),  # the best drew column 0 anew
        ([1.0, 3.0, 2.0], [0.5, 0.5, 0.5]),  # the best drew nothing anew
        ([2.0, 1.0, 1.0], [0.5, 0.5, 0.5]),  # a tie proves nothing
        ([jnp.inf] * 3, [0.5, 0.5, 0.5]),
    ],
)
def test_mean_follows_the_one_best_point_where_it_was_drawn_anew(loss, expected):
    unit = jnp.array([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8], [0.9, 0.9, 0.9]])
    drawn = jnp.array([[False, False], [True, False], [True, True]])
    mean = redraw.follow(jnp.full(3, 0.5), unit, np.array([0, 2]), drawn, jnp.array(loss))
    np.testing.assert_allclose(mean, expected, rtol=1e-6)


def test_a_far_choice_is_found_behind_worse_neighbours():
    """Of seven values the first is good and the last best: no path of single steps leads there."""
    space = {"c": mh.Choice(tuple(range(7))), "x": mh.Float(0.0, 1.0, shape=(2,))}
    worth = jnp.array([1.0, 4.0, 5.0, 6.0, 5.0, 4.0, 0.0])
    strategy = snes(space, 10)

    def found(key):
        state = strategy.init(key)
        state = state._replace(mean=state.mean.at[0].set(0.05), std=state.std.at[0].set(0.02))

        def step(state, key):
            proposal, state = strategy.ask(key, state)
            h = jax.vmap(lambda unit: mh.space.decode(space, unit))(proposal.unit)
            loss = worth[h["c"]] + ((h["x"] - 0.3) ** 2).sum(1)
            return strategy.tell(key, state, proposal, Evaluation(loss, None, ())), None

        state, _ = jax.lax.scan(step, state, jax.random.split(key, 150))
        return mh.space.decode(space, state.mean)["c"]

    run = jax.jit(jax.vmap(found))
    last = np.asarray(run(jax.random.split(jax.random.key(0), 100)))
    # A new value comes 1 / 3 times a generation and is this one in 1 / 7 of these: e^-7 miss it.
    assert (last == 6).mean() >= 0.97
