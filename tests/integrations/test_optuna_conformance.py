"""The checks that Optuna has for the samplers of others."""

import functools

import pytest

cases = pytest.importorskip("optuna.testing.pytest_samplers")  # in newer versions

import metahpo as mh  # noqa: E402
from metahpo.integrations.optuna import Sampler  # noqa: E402


@functools.cache
def sequence(size):
    return mh.strategies.sobol([mh.Float(0.0, 1.0)] * size, 16)


def sobol(space):
    """The strategy sees the number of dimensions alone, so each number is compiled once."""
    return sequence(mh.space.size(space))._replace(space=space)


class TestSampler(
    cases.BasicSamplerTestCase, cases.RelativeSamplerTestCase, cases.SingleOnlySamplerTestCase
):
    @pytest.fixture
    def sampler(self):
        return lambda: Sampler(sobol)
