"""A learned schedule: the schedules, the clipped and smoothed gradient, and what is learned."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from experiments import learned_schedule as study

RESULTS = Path(study.__file__).parent / "results" / "learned_schedule" / "results.json"


def test_a_cosine_warms_up_and_falls_to_its_final_rate():
    rates = np.exp(study.cosine(np.log(0.5), 0.25, np.log(0.01), 100))
    np.testing.assert_allclose(rates[:25], 0.5 * (np.arange(25) + 0.5) / 25, rtol=1e-5)
    t = (np.arange(25, 100) + 0.5 - 25) / 75
    fall = 0.01 + 0.99 * (1 + np.cos(np.pi * t)) / 2
    np.testing.assert_allclose(rates[25:], 0.5 * fall, rtol=1e-4)


def test_the_gradient_of_the_last_rate_is_that_of_one_step():
    # d loss / d log rate_T = - rate_T times the outer gradient times the momentum's trace.
    problem, task, key = study.schedule_problem(), study.data(), jax.random.key(1)
    hparams = {"log_rates": jnp.full(3, np.log(0.05))}
    estimate, _ = jax.jit(mh.hypergrad.reverse(problem, 3).estimate)(key, hparams, task, ())
    before = jax.jit(mh.inner.unroll(problem, 2))(key, hparams, task)
    after = estimate.info["state"]
    outer = jax.jit(jax.grad(study.cross_entropy))(after.params, task.query)
    moved = jax.tree.map(lambda a, b: a - b, after.params, before.params)
    expected = sum(jnp.sum(outer[name] * moved[name]) for name in moved)
    np.testing.assert_allclose(estimate.grad["log_rates"][-1], expected, rtol=1e-4)


def test_smoothing_keeps_a_constant_gradient_and_shrinks_noise():
    smooth = study.smoothed(100)
    noise = np.asarray(jax.random.normal(jax.random.key(2), (100,)))
    same, less = (
        smooth.update([jnp.asarray(g)], smooth.init(None))[0][0] for g in (np.ones(100), noise)
    )
    np.testing.assert_allclose(same, 1.0, rtol=1e-6)
    # White noise through a Gaussian of width s has the variance 1 / (2 s sqrt(pi)).
    expected = (2 * study.SMOOTHING * np.sqrt(np.pi)) ** -0.5
    assert 0.6 * expected < np.std(less[15:-15]) < 1.4 * expected


def test_the_committed_learned_schedule_beats_constants_and_comes_near_the_tuned_cosine():
    results = json.loads(RESULTS.read_text())
    rows = {row["schedule"]: row for row in results["rows"]}
    assert results["settings"]["cost_in_trainings"] == 1600
    for loss, column in (
        ("validation loss", "minus learned"),
        ("test loss", "minus learned, test"),
    ):
        cosine, constant = (rows[name][column] for name in ("cosine, tuned", "constant, tuned"))
        assert constant["mean"] - constant["half_width"] > 0
        assert abs(cosine["mean"]) < 0.05 * rows["cosine, tuned"][loss]["mean"]
        assert cosine["n"] == 128
