"""Mutation: distributions in closed form and of an independent implementation; cells are left."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.strategies.genetic_algorithms import mutation

KEY = jax.random.key(0)
LINE = {"x": mh.Float(0.0, 1.0)}
COUNT = 100_000
LIMIT = 1.95 / COUNT**0.5  # of Kolmogorov's distance, p = 0.001
LEVELS = np.array([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
# pymoo 0.6.2, mut_pm with probability 1, bounds 0 and 1, 400,000 members; quantiles at LEVELS.
PYMOO_COUNT = 400_000
PYMOO = {
    (0.1, 20): [0.00653, 0.02582, 0.07232, 0.09992, 0.13227, 0.20353, 0.26906],
    (0.5, 5): [0.0742, 0.19621, 0.39355, 0.49987, 0.60613, 0.80332, 0.92628],
    (0.97, 20): [0.80037, 0.86582, 0.93731, 0.9699, 0.98272, 0.99601, 0.99916],
}


def mutated(mutate, at, count=COUNT):
    unit = jnp.tile(jnp.atleast_1d(jnp.asarray(at, jnp.result_type(float))), (count, 1))
    out = np.asarray(jax.jit(mutate)(KEY, unit))
    assert out.shape == unit.shape and out.dtype == unit.dtype
    assert out.min() >= 0 and out.max() <= 1
    return out


def kolmogorov(sample, distribution):
    """The largest distance between a sample's distribution function and the true one."""
    x = np.sort(np.asarray(sample, float))
    f, n = distribution(x), len(x)
    return max((np.arange(1, n + 1) / n - f).max(), (f - np.arange(n) / n).max())


def normal_cdf(z):
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])


@pytest.mark.parametrize(("at", "eta"), [(0.5, 20), (0.03, 20), (0.9, 1.5), (0.0, 5), (1.0, 0)])
def test_polynomial_mutation_has_its_bounded_distribution(at, eta):
    out = mutated(mutation.polynomial(LINE, eta, 1.0), at)[:, 0]

    def tail(length, room):  # the probability of a longer move on one side, given the side
        cut = (1 - room) ** (eta + 1)
        return ((1 - length) ** (eta + 1) - cut) / (1 - cut) if room else np.zeros_like(length)

    def truth(y):
        down = tail(np.clip(at - y, 0, at), at) / 2
        up = 1 - tail(np.clip(y - at, 0, 1 - at), 1 - at) / 2
        return np.where(y < at, down, up)

    if 0 < at < 1:
        assert kolmogorov(out, truth) < LIMIT
    else:  # half of the mass stays on the bound
        inner = np.abs(out[out != at] - at)
        assert abs(len(inner) / COUNT - 0.5) < 5 * 0.5 / COUNT**0.5
        assert kolmogorov(inner, lambda d: 1 - tail(d, 1.0)) < 1.95 / len(inner) ** 0.5


@pytest.mark.parametrize(("at", "eta"), PYMOO)
def test_polynomial_mutation_has_the_quantiles_of_pymoo(at, eta):
    out = mutated(mutation.polynomial(LINE, eta, 1.0), at)
    below = (out <= np.array(PYMOO[at, eta])).mean(axis=0)
    error = np.sqrt(LEVELS * (1 - LEVELS) * (1 / COUNT + 1 / PYMOO_COUNT))
    assert (np.abs(below - LEVELS) < 5 * error).all()


def test_gaussian_mutation_is_normal_and_folded_at_the_bounds():
    out = mutated(mutation.gaussian(LINE, 0.05, 1.0), 0.5)[:, 0]
    assert kolmogorov((out - 0.5) / 0.05, normal_cdf) < LIMIT
    edge = mutated(mutation.gaussian(LINE, 0.1, 1.0), 0.0)[:, 0]
    assert kolmogorov(edge / 0.1, lambda z: 2 * normal_cdf(z) - 1) < LIMIT
    wide = mutated(mutation.gaussian(LINE, 30.0, 1.0), 0.2)[:, 0]  # folded many times: uniform
    assert kolmogorov(wide, lambda x: x) < LIMIT


def test_gaussian_mutation_takes_a_length_for_each_coordinate():
    space = {"x": mh.Float(0.0, 1.0, shape=(3,))}
    sigma = jnp.array([0.01, 0.02, 0.04])
    out = mutated(mutation.gaussian(space, sigma, 1.0), [0.5, 0.5, 0.5], 20_000)
    np.testing.assert_allclose(out.std(axis=0), sigma, rtol=5 / (2 * 20_000) ** 0.5)


def test_breeder_mutation_has_a_log_uniform_length():
    with jax.enable_x64(True):
        out = mutated(mutation.breeder(LINE, 0.3, 3e-7, 1.0), 0.5)[:, 0]
    length = np.log(np.abs(out - 0.5))
    low, high = np.log(3e-7), np.log(0.3)
    assert kolmogorov(length, lambda x: np.clip((x - low) / (high - low), 0, 1)) < LIMIT
    assert abs((out > 0.5).mean() - 0.5) < 5 * 0.5 / COUNT**0.5


@pytest.mark.parametrize("name", ["polynomial", "gaussian", "breeder"])
def test_coordinates_are_hit_independently_at_the_rate_and_no_two_share_a_move(name):
    size, count = 5, 20_000
    space = {"x": mh.Float(0.0, 1.0, shape=(size,))}
    out = mutated(getattr(mutation, name)(space), [0.5] * size, count)
    hit = out != 0.5
    np.testing.assert_allclose(hit.mean(axis=0), 1 / size, atol=5 * (0.16 / count) ** 0.5)
    for table in (hit.astype(float), np.sign(out - 0.5)):
        assert np.abs(np.corrcoef(table.T) - np.eye(size)).max() < 5 / count**0.5
        assert abs(np.corrcoef(table[1:, 0], table[:-1, 0])[0, 1]) < 5 / count**0.5
    few = mutated(getattr(mutation, name)(space, rate=1.0), [0.5] * size, 40)
    assert len(np.unique(few)) > 0.9 * few.size  # a shared draw would leave 40 or 5


@pytest.mark.parametrize("name", ["polynomial", "gaussian", "breeder", "cells"])
def test_integers_and_choices_that_are_hit_leave_their_cells(name):
    space = {
        "big": mh.Int(0, 1000),
        "c": mh.Choice(tuple("abcd")),
        "log": mh.Int(1, 64, log=True),
        "n": mh.Int(-3, 3, shape=(2,)),
        "one": mh.Choice(("only",)),
        "x": mh.Float(0.0, 1.0),
    }
    at = mh.space.encode(
        space,
        {"big": 500, "c": 2, "log": 3, "n": jnp.array([0, 3]), "one": 0, "x": 0.4},
    )
    out = mutated(getattr(mutation, name)(space, rate=1.0), at, 6000)
    h = jax.vmap(lambda unit: mh.space.decode(space, unit))(out)
    assert (h["big"] != 500).all() and (h["log"] != 3).all()
    assert (h["n"] != jnp.array([0, 3])).all() and (h["one"] == 0).all()
    counts = np.bincount(h["c"], minlength=4)
    assert counts[2] == 0
    assert ((counts[[0, 1, 3]] - 2000) ** 2 / 2000).sum() < 19  # 2 degrees of freedom: p = 1e-4
    above = np.asarray(h["n"][:, 0] > 0).mean()
    assert abs(above - 0.5) < 5 * 0.5 / 6000**0.5
    if name == "cells":
        np.testing.assert_array_equal(out[:, -1], np.float32(0.4))
        assert set(np.asarray(h["big"])) == {499, 501} and set(np.asarray(h["log"])) == {2, 4}
        assert set(np.asarray(h["n"][:, 1])) == {2}  # inwards from the bound
    else:
        assert (out[:, -1] != np.float32(0.4)).mean() > 0.99


def test_numbers_may_be_traced():
    unit = jnp.full((100, 1), 0.5)
    for make, number in [
        (lambda v: mutation.polynomial(LINE, v, 1.0), 20.0),
        (lambda v: mutation.gaussian(LINE, v, 1.0), 0.1),
        (lambda v: mutation.breeder(LINE, v, 1e-3, 1.0), 0.1),
        (lambda v: mutation.gaussian(LINE, 0.1, v), 0.5),
    ]:
        traced = jax.jit(lambda v, make=make: make(v)(KEY, unit))(number)
        np.testing.assert_allclose(traced, make(number)(KEY, unit), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mutation.polynomial(LINE, -1), "eta must be finite and at least 0, got -1"),
        (lambda: mutation.polynomial(LINE, rate=2.0), r"rate must be in \[0, 1\], got 2.0"),
        (lambda: mutation.gaussian(LINE, 0.0), "sigma must be positive, got 0.0"),
        (lambda: mutation.breeder(LINE, 0.1, 0.2), "0 < smallest <= largest, got 0.2 and 0.1"),
    ],
)
def test_impossible_mutations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
