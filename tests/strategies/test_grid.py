"""Grid search: which points, in which order."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.strategies import grid, grid_size
from metahpo.strategies.grid import permute

SPACE = {
    "act": mh.Choice(("a", "b", "c")),
    "lr": mh.Float(1e-4, 1.0, log=True),
    "width": mh.Int(1, 2),
}


def visited(strategy, rounds, seed=0):
    """``f[rounds * P, D]``, the points in the order of their visits."""
    state = strategy.init(jax.random.key(seed))

    def step(state, key):
        proposal, state = strategy.ask(key, state)
        return state, proposal.unit

    keys = jax.random.split(jax.random.key(100), rounds)
    return np.concatenate(jax.jit(lambda state: jax.lax.scan(step, state, keys)[1])(state))


def test_lexicographic_grid_is_the_product_of_cell_centres():
    units = visited(grid(SPACE, population=4, points=5, shuffle=False), rounds=8)
    thirds, fifths, halves = ([(i + 0.5) / n for i in range(n)] for n in (3, 5, 2))
    full = np.array(list(itertools.product(thirds, fifths, halves)))
    assert len(full) == grid_size(SPACE, points=5) == 30
    np.testing.assert_allclose(units[:30], full, rtol=1e-6)
    np.testing.assert_array_equal(units[30:], units[:2])  # and again from the start


def test_shuffled_grid_visits_every_point_once_before_any_twice():
    ordered = visited(grid(SPACE, population=30, points=5, shuffle=False), rounds=1)
    for seed in range(3):
        units = visited(grid(SPACE, population=7, points=5), rounds=9, seed=seed)
        np.testing.assert_array_equal(np.unique(units[:30], axis=0), np.unique(ordered, axis=0))
        np.testing.assert_array_equal(units[30:60], units[:30])
        assert not np.array_equal(units[:30], ordered)


def test_a_population_larger_than_the_grid_wraps_around():
    strategy = grid({"x": mh.Float(0.0, 1.0)}, population=5, points=2, shuffle=False)
    units = visited(strategy, rounds=2)[:, 0]
    np.testing.assert_array_equal(units, [0.25, 0.75] * 5)


def test_points_by_name_leave_the_default_to_the_others():
    default = grid_size({"x": mh.Float(0.0, 1.0)})
    assert grid_size(SPACE, points={"lr": 7}) == 3 * 7 * 2
    assert grid_size(SPACE, points={"width": 1, "act": 2}) == 2 * default


@pytest.mark.slow
def test_integers_have_as_many_levels_as_distinct_values():
    space = {"n": mh.Int(1, 64, log=True)}
    for points in (1, 10, 30, 64, 100):
        units = visited(grid(space, grid_size(space, points), points, shuffle=False), rounds=1)
        values = space["n"].decode(units[:, 0]).tolist()
        assert len(set(values)) == len(values) <= points
        if points >= 64:
            assert sorted(values) == list(range(1, 65))


@pytest.mark.parametrize("total", [1, 3, 1000])
def test_permute_is_a_bijection(total):
    indices = jnp.arange(total, dtype=jnp.uint32)
    orders = jax.jit(jax.vmap(lambda key: permute(key, indices, total)))(
        jax.random.split(jax.random.key(0), 5)
    )
    np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(total), (5, 1)))


def test_permute_draws_every_permutation_equally_often():
    draws = 24_000
    keys = jax.random.split(jax.random.key(1), draws)
    orders = jax.jit(jax.vmap(lambda key: permute(key, jnp.arange(4, dtype=jnp.uint32), 4)))(keys)
    counts = collections.Counter(map(tuple, np.asarray(orders).tolist()))
    assert len(counts) == 24
    chi2 = sum((count - draws / 24) ** 2 / (draws / 24) for count in counts.values())
    assert chi2 < 60  # 23 degrees of freedom: p = 4e-5


def test_grid_of_billions_of_points_visits_distinct_ones():
    space = [mh.Float(0.0, 1.0)] * 20
    assert grid_size(space, points=3) == 3**20
    units = visited(grid(space, population=50, points=3), rounds=10)
    assert len(np.unique(units, axis=0)) == 500
    # Each coordinate of a fair sample has its levels equally often: 5 standard errors.
    np.testing.assert_allclose(units.mean(axis=0), 0.5, atol=5 * (2 / 27 / 500) ** 0.5)


def test_any_part_of_a_shuffled_grid_is_a_fair_sample():
    space = {"x": mh.Float(0.0, 1.0), "y": mh.Float(0.0, 1.0)}
    strategy = grid(space, population=4, points=4)

    def first_points(key):
        return strategy.ask(key, strategy.init(key))[0].unit

    units = np.asarray(jax.jit(jax.vmap(first_points))(jax.random.split(jax.random.key(0), 4000)))
    cells = (units * 4).astype(int) @ [4, 1]
    counts = np.bincount(cells.ravel(), minlength=16)
    # Each of 16 points is among the first four in a quarter of the orders: 5 standard errors.
    np.testing.assert_allclose(counts / 4000, 0.25, atol=5 * (0.25 * 0.75 / 4000) ** 0.5)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (0, "points of 'act' must be a whole number of at least 1, got 0"),
        ({"lr": 2.5}, "points of 'lr' must be a whole number of at least 1, got 2.5"),
        ({"rate": 3}, "no dimension 'rate'; it has .*'act', 'lr', 'width'"),
    ],
)
def test_impossible_points_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        grid(SPACE, population=4, points=points)


def test_grid_of_more_points_than_can_be_counted_is_refused():
    with pytest.raises(ValueError, match="at most 4294967295 points, this one has 10000000000"):
        grid([mh.Float(0.0, 1.0)] * 10, population=4, points=10)


@pytest.mark.parametrize("shuffle", [False, True])
def test_what_belongs_to_a_branch_is_combined_with_that_branch_alone(shuffle):
    kernel = mh.OneOf(rbf={"gamma": mh.Float(0.0, 1.0)}, linear={})
    model = mh.OneOf(svm={"C": mh.Float(0.0, 1.0), "kernel": kernel}, forest=mh.Int(1, 3), naive={})
    space = {"model": model, "seed": mh.Constant(1), "x": mh.Choice((1, 2))}
    svm = [(c, g) for c in (0.25, 0.75) for g in (0.25, 0.75, None)]
    assert grid_size(space, points=2) == (len(svm) + 2 + 1) * 2
    assert grid_size(space, points={"model": 1, "model.forest": 3}) == 3 * 2
    units = visited(grid(space, population=6, points=2, shuffle=shuffle), rounds=3)
    read = [str(h) for h in mh.space.decoder(space)(units)]
    assert len(set(read)) == 18
    if not shuffle:
        rows = [tuple(mh.space.by_name(space, h).values()) for h in mh.space.decoder(space)(units)]
        assert rows[0] == ("svm", 0.25, "rbf", 0.25, 1, 1)
        assert rows[-3:] == [("forest", 3, 1, 2), ("naive", 1, 1), ("naive", 1, 2)]
