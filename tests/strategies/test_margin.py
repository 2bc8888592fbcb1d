"""The margin correction against its definition, and against another implementation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import metahpo as mh
from metahpo import space as spaces
from metahpo.strategies import margin

ALPHA = 0.04
# ``cmaes.CMAwM`` 0.13.1, margin=0.04, sigma=0.7 and cov=diag((STD / 0.7)**2), told nothing: one
# float, three of {0, 1}, six of {0, ..., 4}.
LEVELS = [0, 1, 1, 1, 4, 4, 4, 4, 4, 4]  # the largest value, 0 for the float
MEAN = [0.3, 0.62, 0.03, 0.45, 0.2, 2.0, 2.4, 1.52, 0.1, 3.9]
STD = [0.5, 0.01, 0.02, 0.3, 0.001, 0.01, 0.05, 0.3, 0.02, 0.8]
CMAES_MEAN = [
    *(0.3, 0.517506860712522, 0.464986278574957, 0.45, 0.498249313928748, 2.0),
    *(2.006496800294288, 1.541886485216052, 0.464986278574957, 3.9),
]
CMAES_A = [1, 1, 1, 1, 1, 24.345721982449085, 4.932412113985914, 1.555064350570476, 1, 1]


def corrector(thresholds):
    return jax.jit(functools.partial(margin.correct, margin.cells(thresholds)))


@pytest.mark.parametrize("x64", [False, True])
def test_agrees_with_cmaes(x64):
    with jax.enable_x64(x64):
        correct = corrector([np.arange(level) + 0.5 for level in LEVELS])
        mean, factor = correct(jnp.array(MEAN), jnp.array(STD), ALPHA)
        assert mean.dtype == factor.dtype == jnp.result_type(float)
    tolerance = 1e-12 if x64 else 2e-6
    np.testing.assert_allclose(mean, CMAES_MEAN, rtol=tolerance)
    np.testing.assert_allclose(factor, CMAES_A, rtol=tolerance)


SPACE = {
    "binary": mh.Choice((False, True), shape=(30,)),
    "choice": mh.Choice(tuple(range(5)), shape=(30,)),
    "int": mh.Int(-3, 12, shape=(30,)),
    "log": mh.Int(1, 100, log=True, shape=(30,)),
    "many": mh.Int(1, 1000, shape=(30,)),  # more than are compared at once
    "x": mh.Float(0.0, 1.0, shape=(30,)),
}


@functools.cache
def space_corrector():  # for float64
    return corrector(spaces.thresholds(SPACE))


def drawn(seed=0):
    """Means anywhere in the cube and a little outside, deviations over seven decades."""
    rng = np.random.default_rng(seed)
    size = spaces.size(SPACE)
    return rng.uniform(-0.05, 1.05, size), 10 ** rng.uniform(-6, 1, size)


def beyond(mean, std, lower, upper):
    """The probabilities of both sides of a cell; none beyond a boundary that there is not."""
    return norm.cdf(lower, mean, std), norm.sf(upper, mean, std)


@pytest.mark.parametrize("alpha", [0.3, 0.02, 1e-3])
def test_every_cell_is_left_as_often_as_the_paper_demands_and_no_more_is_changed(alpha):
    thresholds = spaces.thresholds(SPACE)
    mean, std = drawn()
    with jax.enable_x64(True):
        new, factor = space_corrector()(jnp.array(mean), jnp.array(std), alpha)
    new, wide = np.asarray(new), std * np.asarray(factor)
    outer = inner = kept = 0
    for row, m, s, m2, s2 in zip(thresholds, mean, std, new, wide, strict=True):
        cell = np.searchsorted(row, m, side="right")
        ends = np.concatenate([[-np.inf], row, [np.inf]])
        lower, upper = ends[cell], ends[cell + 1]
        before, after = beyond(m, s, lower, upper), beyond(m2, s2, lower, upper)
        if len(row) == 0:
            enough = True
        elif np.isinf(lower) or np.isinf(upper):  # one of the two is 0
            enough = max(before) >= alpha
            assert s2 == s
            if not enough:
                outer += 1
                assert max(after) == pytest.approx(alpha, rel=1e-9)
        else:
            enough = min(before) >= alpha / 2
            if not enough:
                inner += 1
                # The definition: raise to alpha / 2, then take the excess in proportion.
                raised = np.maximum(before, alpha / 2)
                middle = 1 - sum(before)
                share = (1 - sum(raised) - middle) / (sum(raised) + middle - 1.5 * alpha)
                wanted = raised + share * (raised - alpha / 2)
                np.testing.assert_allclose(after, wanted, rtol=1e-8)
                assert min(after) >= alpha / 2 * (1 - 1e-9)
        if enough:
            kept += 1
            assert (m2, s2) == (m, s)
    assert min(outer, inner, kept) > 20  # all three cases occur


def test_a_second_correction_changes_nothing_more():
    mean, std = drawn(1)
    with jax.enable_x64(True):
        correct = space_corrector()
        mean, factor = correct(jnp.array(mean), jnp.array(std), 0.02)
        again, one = correct(mean, std * factor, 0.02)
    np.testing.assert_allclose(again, mean, rtol=1e-9)
    np.testing.assert_allclose(one, 1.0, rtol=1e-9)


def test_corrected_normal_draws_leave_the_value_of_the_mean_that_often():
    space = {"n": mh.Int(1, 5), "b": mh.Choice(("no", "yes"))}
    mean, std, alpha = jnp.array([0.1, 0.53]), jnp.full(2, 1e-4), 0.1  # b first, then n
    new, factor = corrector(spaces.thresholds(space))(mean, std, alpha)
    draws = new + std * factor * jax.random.normal(jax.random.key(0), (20_000, 2))
    decoded = jax.vmap(lambda u: spaces.decode(space, u))(jnp.clip(draws, 0.0, 1.0))
    values, counts = np.unique(decoded["n"], return_counts=True)
    assert values.tolist() == [2, 3, 4]
    # Five standard deviations of a binomial share of 20,000.
    np.testing.assert_allclose(counts / 20_000, [0.05, 0.9, 0.05], atol=0.0077)
    assert np.mean(decoded["b"] == 1) == pytest.approx(alpha, abs=0.0106)


def test_floats_alone_cost_nothing():
    found = margin.cells(spaces.thresholds({"x": mh.Float(0.0, 1.0, shape=(4,))}))
    assert found is None
    traced = jax.make_jaxpr(lambda m, s: margin.correct(found, m, s, 0.1))(jnp.ones(4), jnp.ones(4))
    assert [eqn.primitive.name for eqn in traced.eqns] == ["broadcast_in_dim"]  # the ones


def test_degenerate_deviations_give_finite_corrections():
    correct = corrector(spaces.thresholds(SPACE))
    size = spaces.size(SPACE)
    for deviation in (0.0, 1e-30, 1e30):
        mean, factor = correct(jnp.full(size, 0.43), jnp.full(size, deviation), 0.01)
        assert bool(jnp.isfinite(mean).all() & (factor >= 1).all())


def test_default_alpha_is_the_papers_and_stays_a_probability_of_one_side():
    assert margin.default_alpha(10, 20) == pytest.approx(1 / 200)
    assert margin.default_alpha(1, 1) == 0.5
