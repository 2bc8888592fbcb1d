"""A meta-training as a problem: it learns what meta_train learns, and has the right gradient."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.run import MetaTraining, as_problem

FAMILY = mh.problems.sinusoid(shots=5, queries=5)
SETTINGS = {"inner_rate": jnp.array(0.05), "meta_rate": jnp.array(0.01)}
TASKS, ROUNDS = 4, 10
KEY = jax.random.key(0)


def maml(settings):
    problem = mh.meta.maml(FAMILY, settings["inner_rate"])
    estimator = mh.hypergrad.reverse(problem, 1, "none")
    return MetaTraining(problem, estimator, optax.adam(settings["meta_rate"]))


def meta_training(configure=maml):
    return as_problem(configure, SETTINGS, tasks=TASKS, steps=1, validation=6)


@pytest.mark.slow
def test_rounds_are_those_of_meta_train():
    problem = meta_training()
    with jax.enable_x64(True):
        task, key = problem.sample(jax.random.key(1)), jax.random.key(2)
        state = jax.jit(mh.inner.unroll(problem, 3))(key, SETTINGS, task)
        what, own = maml(SETTINGS), mh.inner.keys(key)
        start_key, init_key = jax.random.split(own.init)
        hparams = what.problem.initial(start_key)
        loop = mh.run.meta_loop(*what[:2], hparams, what.optimizer, rounds=1, tasks=TASKS)
        carry = loop.init(init_key)
        for t in range(3):
            carry, record = loop.step(jax.random.split(jax.random.fold_in(own.steps, t)), carry)
            assert not record.skipped
    chex.assert_trees_all_close(state, carry, rtol=1e-9)
    assert state.round == 3


@pytest.mark.slow
def test_hypergradients_through_ten_rounds_of_plain_adam_are_finite_and_right():
    """ReLU units that are dead on a task have gradients of 0, whose roots Adam divides by."""
    problem = meta_training()
    with jax.enable_x64(True):
        settings = jax.tree.map(lambda x: x.astype(jnp.float64), SETTINGS)
        task = problem.sample(jax.random.key(1))
        estimator = mh.hypergrad.reverse(problem, ROUNDS)
        found = jax.jit(lambda s: estimator.estimate(KEY, s, task, ())[0])(settings)
        loss = jax.jit(lambda s: mh.inner.outer_loss(problem, ROUNDS)(KEY, s, task)[0])
        start = problem.init(mh.inner.keys(KEY).init, settings, task)
        moments = jax.tree.leaves(mh.inner.unroll(problem, ROUNDS)(KEY, settings, task).opt_state)
        assert any((leaf == 0).any() for leaf in moments if leaf.ndim)  # the case that matters
        assert jax.tree.leaves(start.hparams)[0].dtype == jnp.float64
        for name, value in settings.items():
            h = 1e-6 * value
            above, below = (loss(settings | {name: value + s * h}) for s in (1, -1))
            expected = (above - below) / (2 * h)
            np.testing.assert_allclose(found.grad[name], expected, rtol=1e-4)


def test_settings_are_tuned_by_search():
    problem = meta_training()
    space = {
        "inner_rate": mh.Float(1e-3, 0.3, log=True),
        "meta_rate": mh.Float(1e-4, 0.1, log=True),
    }
    result = jax.jit(
        lambda: mh.search(
            KEY, problem, space, mh.strategies.random(space, population=6), rounds=1, steps=20
        )
    )()
    assert jnp.isfinite(result.history.loss).all() and result.best_loss < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": 0}, "tasks must be a whole number of at least 1, got 0"),
        ({"validation": 0}, "validation must be a whole number of at least 1, got 0"),
        ({"steps": -1}, "steps must be a whole number of at least 0, got -1"),
    ],
)
def test_wrong_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        as_problem(maml, SETTINGS, **{"tasks": 1, "steps": 1, "validation": 1} | options)


def test_a_problem_that_does_not_say_where_to_start_is_refused():
    def bare(settings):
        return maml(settings)._replace(problem=maml(settings).problem._replace(initial=None))

    with pytest.raises(ValueError, match="must say where learning starts"):
        meta_training(bare)
