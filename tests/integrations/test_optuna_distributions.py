"""Optuna's distributions and dimensions of a space: every point of the cube fits."""

import numpy as np
import pytest

optuna = pytest.importorskip("optuna")

from optuna.distributions import (  # noqa: E402
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

import metahpo as mh  # noqa: E402
from metahpo.integrations.optuna import distributions as dist  # noqa: E402

PAIRS = [
    (FloatDistribution(-1.0, 2.0), mh.Float(-1.0, 2.0)),
    (FloatDistribution(1e-5, 1.0, log=True), mh.Float(1e-5, 1.0, log=True)),
    (FloatDistribution(0.1, 0.7, step=0.1), mh.Float(0.1, 0.7, step=0.1)),
    (IntDistribution(-3, 9), mh.Int(-3, 9)),
    (IntDistribution(1, 1000, log=True), mh.Int(1, 1000, log=True)),
    (IntDistribution(8, 64, step=8), mh.Int(8, 64, step=8)),
    (CategoricalDistribution(["a", None, 2, 0.5]), mh.Choice(("a", None, 2, 0.5))),
]
ROUNDED = [  # those that a dimension has no room for
    (FloatDistribution(0.0, 1.0, step=1e-6), mh.Float(0.0, 1.0)),
    (IntDistribution(0, 10**12), mh.Float(0.0, 1e12)),
    (IntDistribution(0, 10**6, step=5), mh.Float(0.0, 1e6)),
    (IntDistribution(1, 10**10, log=True), mh.Float(1.0, 1e10, log=True)),
]


@pytest.mark.parametrize(("distribution", "dim"), PAIRS)
def test_a_distribution_is_a_dimension_and_back(distribution, dim):
    assert dist.dimension(distribution) == dim
    assert dist.distribution_of(dim) == distribution


@pytest.mark.parametrize(("distribution", "dim"), PAIRS + ROUNDED)
def test_every_point_of_the_cube_is_a_value_of_the_distribution(distribution, dim):
    assert dist.dimension(distribution) == dim
    units = np.concatenate([np.linspace(0, 1, 201), np.random.default_rng(0).random(100)])
    for found in mh.space.decoder(dim)(units[:, None].astype(np.float32)):
        value = dist.fitted(distribution, found)
        assert distribution._contains(distribution.to_internal_repr(value))
        whole = isinstance(distribution, IntDistribution)
        assert isinstance(value, int) if whole else value == found or distribution.step


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (CategoricalDistribution([1, 1.0]), "must differ"),
        (FloatDistribution(1e6, 1e6 + 1e-3), "1000000.0"),
        (optuna.distributions.BaseDistribution, "must be a float, an int or categorical"),
    ],
)
def test_what_is_no_dimension_is_refused(distribution, message):
    with pytest.raises(ValueError, match=message):
        dist.dimension(distribution)


def test_values_are_the_same_up_to_rounding():
    space = {
        "x": FloatDistribution(1e-4, 1.0, log=True),
        "n": IntDistribution(0, 9),
        "k": CategoricalDistribution(["a", float("nan")]),
    }
    wanted = {"x": 0.1, "n": 3, "k": float("nan")}
    assert dist.same(space, wanted, {"x": 0.1 * (1 + 1e-4), "n": 3, "k": float("nan")})
    assert dist.same(space, wanted, {"x": 0.1}) and dist.same(space, wanted, {"other": 1})
    assert not dist.same(space, wanted, {"x": 0.103})
    assert not dist.same(space, wanted, {"n": 4})
    assert not dist.same(space, wanted, {"k": "a"})
