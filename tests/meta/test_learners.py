"""What every meta-learner must be able to do: exact meta-gradients, tasks apart, one program."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_table import NAMES, TABLE

import metahpo as mh
from metahpo.problems import Episode

# By row (scope="module"), so that one worker compiles the programs of a row.
ROWS = pytest.mark.parametrize("name", NAMES, scope="module")


class Outcome(NamedTuple):
    """What one program computes of a learner, in double precision."""

    loss: chex.Array
    again: chex.Array  # the criterion of what the learner predicts
    slopes: chex.Array  # [leaves], the meta-gradient along one direction of each leaf
    differences: chex.Array  # [leaves], by finite differences
    mapped: chex.Array  # predictions of three tasks under vmap
    alone: chex.Array  # and one by one, after an adaptation to episodes with queries of NaN


@functools.cache
def outcomes(name):
    """Two outcomes, with other numbers and data, and how often the program was traced."""
    row, family, traces = TABLE[name], TABLE[name].family(), []

    def run(number, key):
        traces.append(name)
        problem = row.make(family, number)
        hparams = problem.initial(jax.random.fold_in(key, 1))
        episodes = jax.vmap(problem.sample)(jax.random.split(jax.random.fold_in(key, 2), 3))
        along = one_direction_a_leaf(jax.random.fold_in(key, 3), hparams)
        adapt, predict = mh.meta.learner(problem, row.steps)
        outer = mh.inner.outer_loss(problem, row.steps)
        first = jax.tree.map(lambda x: x[0], episodes)
        flat, merge, _ = mh.floats.ravel(hparams)
        estimator = mh.hypergrad.reverse(problem, row.steps, "none")
        estimate, _ = estimator.estimate(key, hparams, first, ())
        grad = mh.floats.ravel(estimate.grad)[0]

        def loss(x):
            return outer(key, merge(x), first)[0]

        def one(episode):
            return predict(adapt(hparams, episode.support, key), episode.query.x)

        def blind(episode):
            nothing = jax.tree.map(lambda x: x * jnp.nan, episode.query)
            state = mh.inner.unroll(problem, row.steps)(key, hparams, Episode(episode[0], nothing))
            return predict(state, episode.query.x)

        h = 1e-5
        shifted = jax.vmap(jax.vmap(loss))(flat + h * jnp.stack([along, -along]))
        predictions = jax.vmap(one)(episodes)
        return Outcome(
            estimate.loss,
            family.criterion(predictions[0], first.query.y),
            along @ grad,
            (shifted[0] - shifted[1]) / (2 * h),
            predictions,
            jax.lax.map(blind, episodes),
        )

    with jax.enable_x64(True):
        compiled = jax.jit(run)
        results = [
            compiled(row.number, jax.random.key(0)),
            compiled(1.1 * row.number, jax.random.key(1)),
        ]
        return results, len(traces)


def one_direction_a_leaf(key, hparams):
    leaves, merge = mh.floats.split(hparams)
    rows = []
    for i, leaf in enumerate(leaves):
        zeros = [jnp.zeros_like(other) for other in leaves]
        zeros[i] = jax.random.normal(jax.random.fold_in(key, i), leaf.shape, leaf.dtype)
        rows.append(mh.floats.ravel(merge(zeros))[0])
    return jnp.stack(rows)


@pytest.mark.slow
@ROWS
def test_meta_gradients_are_those_of_finite_differences(name):
    for outcome in outcomes(name)[0]:
        np.testing.assert_allclose(outcome.slopes, outcome.differences, rtol=1e-6, atol=1e-9)
        assert np.abs(outcome.slopes).max() > 1e-4


@ROWS
def test_tasks_may_be_mapped_and_adapting_never_sees_the_query(name):
    for outcome in outcomes(name)[0]:
        np.testing.assert_allclose(outcome.mapped, outcome.alone, rtol=1e-10, atol=1e-12)
        assert not np.allclose(outcome.mapped[0], outcome.mapped[1], rtol=1e-3)


@ROWS
def test_numbers_and_data_are_no_part_of_the_program(name):
    results, traces = outcomes(name)
    assert traces == 1
    assert results[0].loss != results[1].loss


@ROWS
def test_the_learner_predicts_what_the_outer_loss_judges(name):
    for outcome in outcomes(name)[0]:
        if TABLE[name].criterion:
            np.testing.assert_allclose(outcome.again, outcome.loss, rtol=1e-12)
        assert np.isfinite(outcome.again)
