"""Selection: the probability of every rank, in closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.strategies.genetic_algorithms import selection

KEY = jax.random.key(0)
LOSS = jnp.array([4.0, 1.0, 3.0, 0.0, 5.0, 2.0])  # the member with loss r has rank r
N, COUNT = 6, 60_000


def frequencies(select, loss=LOSS, count=COUNT):
    """How often each rank is selected."""
    chosen = np.asarray(jax.jit(lambda key: select(key, loss, count))(KEY))
    assert chosen.shape == (count,) and chosen.dtype == np.int32
    return np.bincount(np.asarray(loss, int)[chosen], minlength=N) / count


def check(select, expected):
    expected = np.asarray(expected)
    error = 5 * np.sqrt(expected * (1 - expected) / COUNT)
    assert expected.sum() == pytest.approx(1.0)
    assert (np.abs(frequencies(select) - expected) <= error).all()


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_tournament_with_replacement(size):
    expected = [((N - i) ** size - (N - i - 1) ** size) / N**size for i in range(N)]
    check(selection.tournament(size), expected)


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_tournament_without_replacement(size):
    expected = [math.comb(N - i - 1, size - 1) / math.comb(N, size) for i in range(N)]
    check(selection.tournament(size, replacement=False), expected)


def test_without_replacement_everyone_takes_part_equally_often():
    contenders = np.asarray(selection.shuffled(KEY, N, 3, N))
    assert contenders.shape == (3, N)
    assert (np.bincount(contenders.ravel()) == 3).all()
    assert all(len(set(column)) == 3 for column in contenders.T)
    won = selection.tournament(3, replacement=False)(KEY, LOSS, N)
    assert (np.asarray(won) == 3).sum() == 3  # the best wins whenever it takes part


def test_truncation_is_uniform_among_the_best():
    check(selection.truncation(0.5), [1 / 3, 1 / 3, 1 / 3, 0, 0, 0])
    check(selection.truncation(0.51), [1 / 4, 1 / 4, 1 / 4, 1 / 4, 0, 0])


@pytest.mark.parametrize("pressure", [1.0, 1.5, 2.0])
def test_linear_ranking(pressure):
    rank = np.arange(N)
    check(selection.ranking(pressure), (pressure - 2 * (pressure - 1) * rank / (N - 1)) / N)


def test_roulette_is_proportional_to_the_lead_over_the_worst():
    check(selection.roulette(), np.array([5, 4, 3, 2, 1, 0]) / 15)


SELECTIONS = {
    "tournament": selection.tournament(3),
    "shuffled": selection.tournament(3, replacement=False),
    "truncation": selection.truncation(1.0),
    "ranking": selection.ranking(1.0),
    "roulette": selection.roulette(),
}


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("value", [7.0, jnp.inf])
def test_all_are_equally_likely_when_all_are_equal(name, value):
    chosen = SELECTIONS[name](KEY, jnp.full(N, value), 6000)
    counts = np.bincount(np.asarray(chosen), minlength=N)
    assert ((counts - 1000) ** 2 / 1000).sum() < 26  # 5 degrees of freedom: p = 1e-4


def test_failed_members_are_selected_only_for_want_of_others():
    loss = jnp.array([jnp.inf, 3e38, -3e38, jnp.inf])
    assert set(np.asarray(selection.roulette()(KEY, loss, 100))) == {2}
    assert set(np.asarray(selection.truncation(0.5)(KEY, loss, 100))) == {1, 2}
    full = selection.tournament(4, replacement=False)
    assert set(np.asarray(full(KEY, loss, 100))) == {2}


def test_one_member_is_all_there_is():
    for name, select in SELECTIONS.items():
        if name != "shuffled":
            assert select(KEY, jnp.array([1.0]), 3).tolist() == [0, 0, 0]


def test_pressure_may_be_traced():
    select = jax.jit(lambda pressure: selection.ranking(pressure)(KEY, LOSS, 600))
    assert set(np.asarray(select(2.0))) == {0, 1, 2, 3, 5}  # never the worst
    assert set(np.asarray(select(1.0))) == set(range(6))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: selection.tournament(0), "size must be a whole number of at least 1, got 0"),
        (lambda: selection.truncation(0.0), r"must be in \(0, 1\], got 0.0"),
        (lambda: selection.ranking(2.5), r"must be in \[1, 2\], got 2.5"),
        (
            lambda: selection.tournament(7, replacement=False)(KEY, LOSS, 2),
            "at most as many members as there are, got 7 of 6",
        ),
    ],
)
def test_impossible_selections_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
