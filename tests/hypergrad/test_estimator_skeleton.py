"""docs/skeletons/estimator.py runs as it is, and estimates what it says."""

import importlib.util
from pathlib import Path

import closed_forms as forms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "docs" / "skeletons" / "estimator.py"
spec = importlib.util.spec_from_file_location("estimator_skeleton", PATH)
skeleton = importlib.util.module_from_spec(spec)
spec.loader.exec_module(skeleton)

KEY = jax.random.key(3)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def test_the_gradient_is_the_exact_one_within_its_standard_error():
    estimator = skeleton.spsa(forms.scalar_dynamics(), 7, pairs=20_000, width=1e-5)
    hparams = forms.scalar_hparams(0.1, 1.3)
    estimate, memory = jax.jit(estimator.estimate)(KEY, hparams, jnp.array(1.1), ())
    expected = forms.scalar_exact(0.1, 1.3, 1.1, 7)
    for name, exact in zip(("lr", "start"), expected, strict=True):
        error = estimate.info["standard_error"][name]
        assert 0 < error < abs(exact) / 4  # it says something
        assert abs(estimate.grad[name] - exact) < 4 * error
    assert estimate.grad["power"] == 0  # a whole number has no gradient
    assert memory == ()


def test_one_dimension_is_a_central_difference():
    """Along one coordinate every corner gives the same slope, exact for a quadratic."""
    problem = forms.scalar_dynamics()._replace(loss=lambda key, h, task, state: (h["x"] - 1) ** 2)
    problem = problem._replace(init=lambda key, h, task: jnp.zeros(()), step=lambda *a: a[-1])
    estimator = skeleton.spsa(problem, 1, pairs=2, width=0.5)
    estimate, _ = estimator.estimate(KEY, {"x": jnp.array(4.0)}, jnp.array(1.0), ())
    np.testing.assert_allclose(estimate.grad["x"], 6.0, rtol=1e-12)
    np.testing.assert_allclose(estimate.loss, 9.25, rtol=1e-12)  # ((3.5 - 1)^2 + (4.5 - 1)^2) / 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": 1, "width": 1.0}, "pairs must be a whole number of at least 2, got 1"),
        ({"pairs": 2, "width": 0.0}, "width must be positive, got 0.0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        skeleton.spsa(forms.scalar_dynamics(), 1, **arguments)
