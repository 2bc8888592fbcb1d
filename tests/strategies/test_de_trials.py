"""The parts of differential evolution against enumerations, distributions and plain loops."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.base import StopReason
from metahpo.strategies.de import trials

KEY = jax.random.key(0)


def chi2(counts, cells):
    """Against equal frequencies."""
    total = sum(counts.values())
    return sum((counts[cell] - total / cells) ** 2 / (total / cells) for cell in counts)


def members_draws(seed, times, count, population):
    """``f[times, count, P]``."""
    draw = jax.vmap(lambda key: trials.random_draws(key, count, population, 1)[0])
    return jax.jit(draw)(jax.random.split(jax.random.key(seed), times))


@pytest.mark.parametrize("x64", [False, True])
def test_draws_are_uniform_and_uncorrelated(x64):
    with jax.enable_x64(x64):
        fine, coarse = jax.jit(lambda key: trials.random_draws(key, 3, 5000, 7))(KEY)
        assert fine.dtype == coarse.dtype == jnp.result_type(float)
    assert fine.shape == (3, 5000) and coarse.shape == (5000, 7)
    columns = np.concatenate([np.asarray(fine), np.asarray(coarse).T])
    assert columns.min() >= 0 and columns.max() < 1
    deciles = np.stack([np.histogram(column, 10, (0, 1))[0] for column in columns])
    assert (((deciles - 500) ** 2 / 500).sum(axis=1) < 33).all()  # 9 degrees, p = 1e-4 each
    off_diagonal = np.corrcoef(columns) - np.eye(10)
    assert np.abs(off_diagonal).max() < 4.5 / 5000**0.5


def test_an_odd_number_of_cells_gets_its_own_draws():
    coarse = np.asarray(jax.jit(lambda: trials.random_draws(KEY, 1, 33, 3))()[1])
    assert coarse.shape == (33, 3)
    assert len(np.unique(coarse)) > 96  # 99 draws from 65,536 values


def test_parents_are_every_ordered_choice_of_distinct_others_equally_often():
    population = 5
    draw = members_draws(1, 20_000, 3, population)
    others_of = jax.jit(jax.vmap(lambda d: trials.distinct_others(d, [population] * 3)))
    parents = np.asarray(others_of(draw))
    for target in range(population):
        counts = collections.Counter(map(tuple, parents[:, :, target].tolist()))
        others = set(range(population)) - {target}
        assert set(counts) == set(itertools.permutations(others, 3))
        assert chi2(counts, 24) < 60  # 23 degrees of freedom: p = 4e-5


def test_second_index_comes_from_population_and_archive_alike():
    population, archived = 4, 3
    draw = members_draws(2, 20_000, 2, population)
    sizes = (population, population + jnp.int32(archived))
    pairs = np.asarray(jax.jit(jax.vmap(lambda d: trials.distinct_others(d, sizes)))(draw))
    for target in range(population):
        counts = collections.Counter(map(tuple, pairs[:, :, target].tolist()))
        expected = {
            (i, j)
            for i in range(population)
            for j in range(population + archived)
            if len({i, j, target}) == 3
        }
        assert set(counts) == expected
        assert chi2(counts, len(expected)) < 42  # 14 degrees of freedom: p = 1e-4


def test_best_are_drawn_equally_often_and_nan_ranks_last():
    loss = jnp.array([3.0, jnp.inf, 1.0, 2.0, jnp.inf, 5.0])
    draw = members_draws(3, 2000, 1, 6)[:, 0]
    best = jax.jit(jax.vmap(lambda d: trials.best_others(d, loss, 4, 3)))(draw)
    counts = collections.Counter(np.asarray(best).ravel().tolist())
    assert set(counts) == {0, 2, 3}
    assert chi2(counts, 3) < 20


def test_crossover_takes_one_coordinate_for_sure_and_the_others_at_the_rate():
    fine, coarse = jax.jit(lambda key: trials.random_draws(key, 1, 16_000, 5))(KEY)
    sure = trials.index(fine[0], 5)

    def rates(rate):
        return np.asarray(trials.crossover(coarse, sure, rate))

    none = rates(0.0)
    assert (none.sum(axis=1) == 1).all()
    assert chi2(collections.Counter(none.argmax(axis=1).tolist()), 5) < 24
    assert rates(1.0).all()
    half = rates(0.5)
    assert half.any(axis=1).all()
    # Each coordinate: 1/5 for sure, else 1/2; 5 standard errors.
    np.testing.assert_allclose(half.mean(axis=0), 0.6, atol=5 * (0.24 / 16_000) ** 0.5)
    own = rates(jnp.linspace(0, 1, 16_000)[:, None])  # every member its own rate
    assert own[:4000].mean() < own[4000:8000].mean() < own[12_000:].mean()


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9, 1.0])
def test_what_crossover_leaves_is_uniform_and_independent_of_it(rate):
    coarse = jax.jit(lambda: trials.random_draws(KEY, 1, 4000, 10))()[1]
    share = np.asarray(jax.jit(trials.left_over)(coarse, rate))
    taken = np.asarray(coarse < rate)
    assert ((share >= 0) & (share <= 1)).all()
    for part in (share[taken], share[~taken]):
        if len(part):
            counts = np.histogram(part, 10, (0, 1))[0]
            expected = len(part) / 10
            assert ((counts - expected) ** 2 / expected).sum() < 33


def test_bounce_back_draws_between_base_and_bound_and_leaves_the_rest():
    base = jnp.broadcast_to(jnp.array([0.2, 0.2, 0.2, 0.0, 1.0]), (4000, 5))
    point = jnp.broadcast_to(jnp.array([-0.5, 3.0, 0.7, -0.1, 1.1]), (4000, 5))
    share = jax.jit(lambda: trials.random_draws(KEY, 1, 4000, 5))()[1]
    out = np.asarray(jax.jit(trials.bounce_back)(share, base, point))
    assert ((out >= 0) & (out <= 1)).all()
    np.testing.assert_array_equal(out[:, 2], np.float32(0.7))
    np.testing.assert_array_equal(out[:, 3:], base[:, 3:])  # a base on the bound stays there
    np.testing.assert_allclose(
        np.quantile(out[:, 0], [0.25, 0.5, 0.75]), [0.05, 0.1, 0.15], atol=0.01
    )
    np.testing.assert_allclose(
        np.quantile(out[:, 1], [0.25, 0.5, 0.75]), [0.4, 0.6, 0.8], atol=0.04
    )


def test_halfway_is_the_mean_of_parent_and_bound():
    parent, point = jnp.array([0.2, 0.2, 0.2]), jnp.array([-3.0, 1.5, 0.7])
    np.testing.assert_allclose(trials.halfway(parent, point), [0.1, 0.6, 0.7], rtol=1e-6)


def test_trials_are_one_of_the_formulas_with_or_without_archive():
    x = 0.5 + 0.05 * np.asarray(jax.random.normal(jax.random.key(3), (4, 2)))
    old = 0.5 + 0.05 * np.asarray(jax.random.normal(jax.random.key(4), (3, 2)))
    archive = trials.Archive(jnp.asarray(old), jnp.int32(2))
    weight, best = jnp.array([0.3, 0.5, 0.7, 0.9]), jnp.array([1, 1, 2, 2])
    draw = members_draws(5, 200, 3, 4)
    one = lambda d: trials.current_to_pbest(  # noqa: E731
        d, jnp.zeros((4, 2)), jnp.asarray(x), archive, best, weight, jnp.ones(4)
    )
    found = np.asarray(jax.jit(jax.vmap(one))(draw))
    from_archive = 0
    for i in range(4):
        f, pool = float(weight[i]), [*x, *old[:2]]
        pairs = [(a, b) for a in range(4) for b in range(6) if len({a, b, i}) == 3]
        formulas = np.array(
            [x[i] + f * (x[int(best[i])] - x[i]) + f * (x[a] - pool[b]) for a, b in pairs]
        )
        error = np.abs(formulas[None] - found[:, i, None]).max(axis=2)
        assert error.min(axis=1).max() < 1e-6
        from_archive += sum(pairs[k][1] >= 4 for k in error.argmin(axis=1))
    assert 0.4 < from_archive / 800 < 0.6  # 2 of the 4 that are left


ARCHIVED = jax.jit(trials.archived)


def archive_by_loop(draw, rows, size, parents, success, capacity):
    rows = rows.copy()
    for j in np.flatnonzero(success):
        slot = size if size < capacity else int(draw[j] * capacity)
        rows[slot] = parents[j]
        size = min(size + 1, capacity)
    return rows, size


@pytest.mark.parametrize(("size", "capacity"), [(0, 8), (5, 8), (8, 8), (4, 6), (6, 6)])
def test_archive_fills_up_and_then_replaces_at_random(size, capacity):
    rng = np.random.default_rng(size)
    rows, parents = rng.random((8, 3), np.float32), rng.random((7, 3), np.float32)
    draw, success = rng.random(7, np.float32), np.array([1, 1, 0, 1, 1, 0, 1], bool)
    archive = trials.Archive(jnp.asarray(rows), jnp.int32(size))
    new = ARCHIVED(draw, archive, parents, success, capacity)
    expected, length = archive_by_loop(draw, rows, size, parents, success, capacity)
    np.testing.assert_array_equal(new.unit[:length], expected[:length])
    assert new.size == length


def test_an_archive_without_room_stays_empty():
    archive = trials.empty_archive(trials.archive_size(0.0, 10), jnp.zeros((10, 2)))
    new = trials.archived(jnp.zeros(10), archive, jnp.ones((10, 2)), jnp.ones(10, bool))
    assert new.unit.shape == (0, 2) and new.size == 0


def test_collapse_counts_the_known_part_of_the_archive():
    unit, far = jnp.full((4, 2), 0.3), jnp.array([[0.3, 0.3], [0.9, 0.3]])
    assert trials.collapsed(unit) == StopReason.COLLAPSE
    assert trials.collapsed(unit, trials.Archive(far, jnp.int32(1))) == StopReason.COLLAPSE
    assert trials.collapsed(unit, trials.Archive(far, jnp.int32(2))) == StopReason.RUNNING
