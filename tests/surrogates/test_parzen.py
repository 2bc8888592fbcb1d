"""Parzen estimators: Optuna's densities, masks, sums over cells, and what is drawn from them."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import parzen_oracle
import pytest
from scipy import integrate, stats

import metahpo as mh
from metahpo.surrogates import parzen

REFERENCE = json.loads(Path(__file__).with_name("parzen_reference.json").read_text())
MAKE = {
    "float": lambda low, high, log: mh.Float(low, high, log=log),
    "int": lambda low, high, log: mh.Int(low, high, log=log),
    "choice": lambda count: mh.Choice(tuple(range(count))),
}
SPACE = {name: MAKE[kind](*numbers) for name, (kind, *numbers) in parzen_oracle.DIMENSIONS.items()}
DIMS = list(mh.space.dimensions(SPACE).values())
# Per unit of the cube and not of the value, or of its logarithm.
SCALE = np.log(5.0) + np.log(np.log(1e4))


def placed(values):
    """``f[N, D]``, points of the cube."""
    each = [SPACE[name].encode(jnp.asarray(np.asarray(values[name]))) for name in sorted(SPACE)]
    return jnp.stack(each, axis=1)


def ours(observed, points, spare=0, start=0):
    unit, at = placed(observed), placed(points)
    count = len(unit)
    slots = jnp.full((count + spare, len(DIMS)), jnp.nan).at[start : start + count].set(unit)
    mask = (jnp.arange(count + spare) >= start) & (jnp.arange(count + spare) < start + count)
    kernels = jax.jit(lambda *x: parzen.fitted(DIMS, *x))(slots, mask)
    return jax.jit(lambda *x: parzen.log_density(DIMS, *x))(kernels, at)


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: len(case["observed"]["rate"]))
@pytest.mark.parametrize(("x64", "tolerance"), [(True, 1e-9), (False, 2e-3)])
def test_densities_are_optunas(case, x64, tolerance):
    with jax.enable_x64(x64):
        found = ours(case["observed"], case["points"])
    np.testing.assert_allclose(found, np.array(case["log_density"]) + SCALE, atol=tolerance)


def test_the_stored_densities_are_those_of_the_optuna_that_is_installed():
    pytest.importorskip("optuna", minversion="5")
    for case, (observed, points) in zip(REFERENCE, parzen_oracle.cases(), strict=True):
        found = parzen_oracle.density(observed, points)
        np.testing.assert_allclose(found, case["log_density"], rtol=1e-9)


@pytest.mark.parametrize("case", REFERENCE[1::3], ids=lambda case: len(case["observed"]["rate"]))
def test_empty_slots_change_nothing_wherever_they_are(case):
    with jax.enable_x64(True):
        plain = ours(case["observed"], case["points"])
        for spare, start in ((40, 0), (40, 13)):
            found = ours(case["observed"], case["points"], spare, start)
            np.testing.assert_allclose(found, plain, rtol=1e-12)


def fitted(space, points):
    dims = list(mh.space.dimensions(space).values())
    unit = jnp.asarray(points)
    return dims, parzen.fitted(dims, unit, jnp.ones(len(unit), bool))


def test_probabilities_of_all_values_sum_to_one():
    space = {"a": mh.Int(1, 12, log=True), "b": mh.Choice((0, 1, 2)), "c": mh.Int(0, 3)}
    with jax.enable_x64(True):
        dims, kernels = fitted(space, np.random.default_rng(0).random((7, 3)))
        each = [dim.encode(np.arange(low, low + n)) for dim, low, n in zip(
            dims, (1, 0, 0), (12, 3, 4), strict=True)]  # fmt: skip
        grid = jnp.stack(jnp.meshgrid(*each, indexing="ij"), -1).reshape(-1, 3)
        assert float(jnp.exp(parzen.log_density(dims, kernels, grid)).sum()) == pytest.approx(1)


@pytest.mark.parametrize("points", [[[0.0]], [[1.0]], [[0.4]] * 9, np.linspace(0, 1, 200)[:, None]])
def test_the_density_of_a_float_integrates_to_one(points):
    with jax.enable_x64(True):
        dims, kernels = fitted({"x": mh.Float(0.0, 1.0)}, points)
        at = np.linspace(0, 1, 20_001)
        found = np.exp(parzen.log_density(dims, kernels, jnp.asarray(at)[:, None]))
    assert integrate.simpson(found, x=at) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-6), (False, 3e-4)])
def test_masses_far_out_and_in_narrow_cells_keep_their_digits(x64, rtol):
    low = np.array([-90.0, -30.0, -5.0, -1.0, -1e-3, 0.0, 2.0, 7.0, 60.0])[:, None]
    high = low + np.array([1e-5, 1e-3, 9e-3, 1.1e-2, 1.0, 50.0])
    with jax.enable_x64(x64):
        a, b = jnp.broadcast_arrays(jnp.asarray(low), jnp.asarray(high))
        found = parzen._log_mass(a, b)
        # What single precision does to the ends is not what is tested.
        expected = np.vectorize(exact)(np.asarray(a, "f8"), np.asarray(b, "f8"))
    within = expected > -np.inf  # ends that are one number in single precision
    np.testing.assert_allclose(found[within], expected[within], rtol=rtol, atol=rtol)


def exact(low, high):
    """By integration, of the part that counts, relative to its highest point."""
    peak = np.clip(0.0, low, high)
    reach = 40 / max(abs(peak), 1)
    low, high = max(low, peak - reach), min(high, peak + reach)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = (low + high) / 2 + nodes * (high - low) / 2
    share = (weights * np.exp((peak - x) * (peak + x) / 2)).sum() * (high - low) / 2
    return stats.norm.logpdf(peak) + np.log(share)


@pytest.mark.parametrize("count", [0, 40])
def test_what_is_drawn_has_the_density_that_it_is_told(count):
    space = {"x": mh.Float(0.0, 1.0), "n": mh.Int(1, 6, log=True), "c": mh.Choice((0, 1, 2, 3))}
    dims = list(mh.space.dimensions(space).values())
    unit = jnp.asarray(np.random.default_rng(0).random((count, 3)) ** 2)
    kernels = parzen.fitted(dims, unit, jnp.ones(count, bool))
    points = np.asarray(jax.jit(lambda key: parzen.drawn(key, dims, kernels, 20_000))(
        jax.random.key(0)))  # fmt: skip
    assert ((points >= 0) & (points <= 1)).all()
    order = list(space)
    for name in ("n", "c"):
        alone, own = sorted(order).index(name), list(mh.space.dimensions(space)).index(name)
        assert alone == own
        dim = space[name]
        low = 1 if name == "n" else 0
        size = 6 if name == "n" else 4
        one = parzen.Kernels(
            kernels.log_weight, kernels.mean[:, [own]], kernels.std[:, [own]], kernels.count
        )
        values = np.arange(low, low + size)
        expected = np.exp(parzen.log_density([dim], one, jnp.asarray(dim.encode(values))[:, None]))
        found = np.array([(dim.decode(points[:, own]) == v).mean() for v in values])
        np.testing.assert_allclose(found, expected, atol=0.015)
    own = list(mh.space.dimensions(space)).index("x")
    one = parzen.Kernels(
        kernels.log_weight, kernels.mean[:, [own]], kernels.std[:, [own]], kernels.count
    )
    at = np.linspace(0, 1, 2001)
    density = np.exp(parzen.log_density([space["x"]], one, jnp.asarray(at)[:, None]))
    cdf = integrate.cumulative_simpson(density, x=at, initial=0)
    assert stats.kstest(points[:, own], lambda x: np.interp(x, at, cdf)).pvalue > 1e-3
