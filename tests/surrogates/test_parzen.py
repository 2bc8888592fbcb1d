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


COUNTS = [len(case["observed"]["rate"]) for case in REFERENCE]
SLOTS = max(COUNTS) + 40  # as many for all cases, so that one program serves them


def placed(values):
    """``f[N, D]``, points of the cube."""
    return jnp.stack([SPACE[name].encode(values[name]) for name in sorted(SPACE)], axis=1)


@jax.jit
def density(observed, mask, points):
    unit = jnp.where(mask[:, None], placed(observed), jnp.nan)
    return parzen.log_density(DIMS, parzen.fitted(DIMS, unit, mask), placed(points))


def ours(case, slots=SLOTS, start=0):
    """With the observations in some of the slots."""
    count = len(case["observed"]["rate"])
    places = np.arange(start, start + count)
    padded = {}
    for name, values in case["observed"].items():
        values = np.asarray(values)
        padded[name] = np.full(slots, SPACE[name].decode(0.5), values.dtype)
        padded[name][places] = values
    mask = np.isin(np.arange(slots), places)
    return density(padded, mask, {name: np.asarray(x) for name, x in case["points"].items()})


@pytest.mark.parametrize("case", REFERENCE, ids=COUNTS)
@pytest.mark.parametrize(("x64", "tolerance"), [(True, 1e-9), (False, 2e-3)])
def test_densities_are_optunas(case, x64, tolerance):
    with jax.enable_x64(x64):
        found = ours(case)
    np.testing.assert_allclose(found, np.array(case["log_density"]) + SCALE, atol=tolerance)


def test_the_stored_densities_are_those_of_the_optuna_that_is_installed():
    pytest.importorskip("optuna", minversion="5")
    for case, (observed, points) in zip(REFERENCE, parzen_oracle.cases(), strict=True):
        found = parzen_oracle.density(observed, points)
        np.testing.assert_allclose(found, case["log_density"], rtol=1e-9)


@pytest.mark.parametrize("count", [0, 1, 24, 150])
def test_empty_slots_change_nothing_wherever_they_are(count):
    case = REFERENCE[COUNTS.index(count)]
    with jax.enable_x64(True):
        plain = ours(case, slots=count)
        for start in (0, 13):
            np.testing.assert_allclose(ours(case, start=start), plain, rtol=1e-12)


def fitted(dims, unit):
    return parzen.fitted(dims, unit, jnp.ones(len(unit), bool))


def test_probabilities_of_all_values_sum_to_one():
    space = {"a": mh.Int(1, 12, log=True), "b": mh.Choice((0, 1, 2)), "c": mh.Int(0, 3)}
    dims = list(mh.space.dimensions(space).values())
    values = np.arange(1, 13), np.arange(3), np.arange(4)

    @jax.jit
    def total(unit):
        each = [dim.encode(one) for dim, one in zip(dims, values, strict=True)]
        grid = jnp.stack(jnp.meshgrid(*each, indexing="ij"), -1).reshape(-1, 3)
        return jnp.exp(parzen.log_density(dims, fitted(dims, unit), grid)).sum()

    with jax.enable_x64(True):
        assert float(total(np.random.default_rng(0).random((7, 3)))) == pytest.approx(1)


@pytest.mark.slow
def test_the_density_of_branches_integrates_to_one_over_what_each_has():
    space = mh.OneOf(a={"n": mh.Int(0, 3), "c": mh.Choice((0, 1, 2))}, b=mh.Float(0.0, 1.0), no={})
    dims = list(mh.space.dimensions(space).values())
    pairs = [[0.1, c, n, 0.5] for c in (0.1, 0.5, 1) for n in np.arange(1, 8, 2) / 8]
    line = np.linspace(0, 1, 20_001)
    points = np.array([*pairs, *[[0.5, 0.3, 0.7, x] for x in line], [0.9, 0.1, 0.2, 0.3]])

    @jax.jit
    def densities(unit, points):
        active = lambda unit: mh.space.active(space, unit)  # noqa: E731
        kernels = parzen.fitted(dims, unit, jnp.arange(len(unit)) < 20, active(unit))
        return jnp.exp(parzen.log_density(dims, kernels, points, active(points))), kernels

    with jax.enable_x64(True):
        unit = np.random.default_rng(0).random((24, 4))
        found, kernels = densities(unit, points)
        a, b, no = np.split(found, [len(pairs), len(points) - 1])
        assert a.sum() + integrate.simpson(b, x=line) + no[0] == pytest.approx(1, abs=1e-6)
        # What an observation or a point does not have plays no part.
        active = np.asarray(mh.space.active(space, unit))
        other = densities(np.where(active, unit, 0.99), mh.space.canonical(space, points))
        jax.tree.map(np.testing.assert_array_equal, other, (found, kernels))
        in_b = active[:20, 3]
        assert kernels.count.tolist() == [21, *2 * [active[:20, 1].sum() + 1], in_b.sum() + 1]
        alone = parzen.fitted(dims[3:], unit[:20][in_b][:, 3:], np.ones(in_b.sum(), bool))
        np.testing.assert_allclose(kernels.std[:20, 3][in_b], alone.std[:-1, 0])


AT = np.linspace(0, 1, 20_001)


@jax.jit
def density_of_a_float(unit, mask):
    dims = [mh.Float(0.0, 1.0)]
    return jnp.exp(parzen.log_density(dims, parzen.fitted(dims, unit, mask), AT[:, None]))


@pytest.mark.parametrize("points", [[0.0], [1.0], [0.4] * 9, np.linspace(0, 1, 200)])
def test_the_density_of_a_float_integrates_to_one(points):
    unit = np.zeros((200, 1))
    unit[: len(points), 0] = points
    with jax.enable_x64(True):
        found = density_of_a_float(unit, np.arange(200) < len(points))
    assert integrate.simpson(found, x=AT) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-6), (False, 3e-4)])
def test_masses_far_out_and_in_narrow_cells_keep_their_digits(x64, rtol):
    low = np.array([-90.0, -30.0, -5.0, -1.0, -1e-3, 0.0, 2.0, 7.0, 60.0])[:, None]
    high = low + np.array([1e-5, 1e-3, 9e-3, 1.1e-2, 1.0, 50.0])
    with jax.enable_x64(x64):
        a, b = jnp.broadcast_arrays(jnp.asarray(low), jnp.asarray(high))
        found = jax.jit(parzen._log_mass)(a, b)
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
    space = {"c": mh.Choice((0, 1, 2, 3)), "n": mh.Int(1, 6, log=True), "x": mh.Float(0.0, 1.0)}
    dims = mh.space.dimensions(space)
    at = {"c": np.arange(4), "n": np.arange(1, 7), "x": np.linspace(0, 1, 2001)}

    @jax.jit
    def run(key, unit):
        """20,000 points, their values, and the density of each dimension alone."""
        kernels = fitted(list(dims.values()), unit)
        points = parzen.drawn(key, list(dims.values()), kernels, 20_000)
        densities = {}
        for i, (name, dim) in enumerate(dims.items()):
            one = kernels._replace(mean=kernels.mean[:, [i]], std=kernels.std[:, [i]])
            found = parzen.log_density([dim], one, dim.encode(at[name])[:, None])
            densities[name] = jnp.exp(found)
        values = {name: dim.decode(points[:, i]) for i, (name, dim) in enumerate(dims.items())}
        return points, values, densities

    unit = (np.random.default_rng(0).random((count, 3)) ** 2).astype("f4")
    points, values, densities = jax.device_get(run(jax.random.key(0), unit))
    assert ((points >= 0) & (points <= 1)).all()
    for name in ("n", "c"):
        found = (values[name][:, None] == at[name]).mean(0)
        np.testing.assert_allclose(found, densities[name], atol=0.015)
    cdf = integrate.cumulative_simpson(densities["x"], x=at["x"], initial=0)
    own = points[:, list(dims).index("x")]
    assert stats.kstest(own, lambda x: np.interp(x, at["x"], cdf)).pvalue > 1e-3
