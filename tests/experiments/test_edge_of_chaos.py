"""The edge of chaos: the smoothed slope, the two forms of the loss, and what was found."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from experiments import edge_of_chaos as study

RESULTS = Path(study.__file__).parent / "results" / "edge_of_chaos" / "results.json"


def test_the_smoothed_slope_of_a_polynomial_is_its_closed_form():
    # E (h + s e)^3 = h^3 + 3 h s^2, whose slope is 3 h^2 + 3 s^2.
    grid, at = np.linspace(-2.0, 2.0, 4001), np.linspace(-1.0, 1.0, 5)
    level, slope = study.smoothed(grid, grid**3, at)
    np.testing.assert_allclose(level, at**3 + 3 * at * study.SIGMA**2, atol=1e-6)
    np.testing.assert_allclose(slope, 3 * at**2 + 3 * study.SIGMA**2, rtol=1e-5)


def test_the_averaging_problem_has_the_mean_of_the_windows_losses():
    hparams, task = {"log_rate": jnp.array(-1.0)}, study.data()
    mean = mh.inner.outer_loss(study.mean_problem(), study.STEPS)(study.KEY, hparams, task)[0]
    _, trace = mh.inner.unroll(
        study.window_problem(), study.STEPS, record=lambda p: study.brier(p, task)
    )(study.KEY, hparams, task)
    ends = trace[study.WINDOW - 1 :: study.WINDOW]
    np.testing.assert_allclose(mean, np.mean(ends), rtol=1e-5)


def test_reverse_tells_chaos_from_stability():
    with jax.enable_x64(True):
        reverse = mh.hypergrad.reverse(study.mean_problem(), study.STEPS)
        found = study.estimate_at(reverse, 1, jnp.array([-1.0, 3.5]))
        np.testing.assert_array_equal(found["exploding"], [False, True])
        step = 1e-4
        below, above = study.curve(np.array([-1.0 - step, -1.0 + step]))
        np.testing.assert_allclose(found["grads"][0], (above - below) / (2 * step), rtol=1e-5)
        assert abs(found["grads"][1]) > 1e3


def test_committed_es_keeps_the_slope_where_reverse_has_lost_it():
    results = json.loads(RESULTS.read_text())
    rows = {row["estimator"]: row for row in results["rows"]}
    assert rows["reverse"]["error, stable"] < 0.05
    assert rows["reverse"]["error, chaos"] > 1e6
    for name in ("es", "nres", "mixture"):
        assert rows[name]["error, chaos"] < 1
        assert rows[name]["sign right %, chaos"] > 75
    assert rows["mixture"]["error, stable"] < 0.1 * rows["es"]["error, stable"]
    assert results["slope_error"] < 0.15 * results["largest_smoothed_slope"]
    assert results["implicit_sees_the_rate"] == 0
