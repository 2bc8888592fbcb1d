"""The checks that Optuna has for the samplers of others."""

import pytest

cases = pytest.importorskip("optuna.testing.pytest_samplers")  # in newer versions

import metahpo as mh  # noqa: E402
from metahpo.integrations.optuna import Sampler  # noqa: E402


class TestSampler(
    cases.BasicSamplerTestCase, cases.RelativeSamplerTestCase, cases.SingleOnlySamplerTestCase
):
    @pytest.fixture
    def sampler(self):
        return lambda: Sampler(lambda space: mh.strategies.sobol(space, 16))
