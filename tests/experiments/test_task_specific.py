"""A Problem in a Problem: the outer step, its hypergradient, and what it gains."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from experiments import task_specific as study

RESULTS = Path(study.__file__).parent / "results" / "task_specific" / "results.json"
KEY = jax.random.key(0)


def test_no_hyperparameters_of_the_box_make_training_diverge():
    task = study.sample(jax.random.key(1))
    corners = jnp.array([[a, b] for a in (-7.0, 1.0) for b in (-7.0, 2.0)])
    own = {"log_lr": corners[:, 0], "log_l2": corners[:, 1]}
    losses = jax.jit(jax.vmap(study.judged, in_axes=(0, None)))(own, task)
    assert np.all(np.isfinite(losses))


def test_an_outer_step_is_a_hypergradient_step_of_the_inner_problem():
    task = study.sample(jax.random.key(2))
    shared = study.initial_shared(log_rate=-0.5, log_precision=-1.0)
    own = {"log_lr": jnp.array(-2.0), "log_l2": jnp.array(-3.0)}
    moved = jax.jit(study.adaptation_problem().step)(KEY, shared, task, own)
    loss = jax.jit(
        lambda own: mh.inner.outer_loss(study.training_problem(), study.STEPS)(KEY, own, task)[0]
    )
    for name in own:
        up, down = ({**own, name: own[name] + sign * 1e-2} for sign in (1, -1))
        slope = (loss(up) - loss(down)) / 2e-2
        pull = np.exp(-1.0) * (own[name] - study.MIDDLE[name])
        expected = own[name] - np.exp(-0.5) * np.tanh(slope + pull)
        np.testing.assert_allclose(moved[name], expected, atol=2e-3)


def test_the_outer_hypergradient_is_the_slope_of_the_adapted_test_loss():
    with jax.enable_x64(True):

        def as_double(tree):
            return jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree)

        task = as_double(study.sample(jax.random.key(3)))
        shared = as_double(study.initial_shared())
        problem = study.adaptation_problem()
        estimator = mh.hypergrad.reverse(problem, 2, checkpoint="none")
        both = jax.jit(lambda h: estimator.estimate(KEY, h, task, ())[0][:2])
        _, grad = both(shared)
        for group in shared:
            up, down = (
                {
                    **shared,
                    group: {**shared[group], "log_l2": shared[group]["log_l2"] + sign * 1e-5},
                }
                for sign in (1, -1)
            )
            slope = (both(up)[0] - both(down)[0]) / 2e-5
            np.testing.assert_allclose(grad[group]["log_l2"], slope, rtol=1e-5, atol=1e-9)


def test_committed_own_hyperparameters_beat_shared_ones_and_random_search():
    rows = {row["hyperparameters"]: row for row in json.loads(RESULTS.read_text())["rows"]}
    for name in ("shared: learned", "own: random search, 6"):
        difference = rows[name]["minus ours"]
        assert difference["mean"] - difference["half_width"] > 0
        assert difference["n"] == 200
    # Not worse than as much computing spent on random search.
    difference = rows["own: random search, 21"]["minus ours"]
    assert difference["mean"] + difference["half_width"] > 0
