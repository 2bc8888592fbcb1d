"""Meta-training improves every meta-learner, and support labels are all that it goes by."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from learner_table import CLASSIFIERS, TABLE, TRAINED, WAYS, regression

import metahpo as mh
from metahpo.problems import Examples, accuracy, squared_error

pytestmark = pytest.mark.slow


class Trained(NamedTuple):
    """Mean losses on fresh tasks, and the accuracy with its standard error."""

    before: chex.Array
    after: chex.Array
    skipped: chex.Array
    accuracy: chex.Array
    error: chex.Array
    start: chex.ArrayTree
    learned: chex.ArrayTree


@functools.cache
def meta_trained(name):
    """``(shuffled) -> Trained``: with support labels as they are, or in a random order."""
    row, family = TABLE[name], TABLE[name].family()

    def run(shuffled):
        def sample(key):
            episode = family.sample(key)
            x, y = episode.support
            mixed = jax.random.permutation(jax.random.fold_in(key, 1), y)
            return episode._replace(support=Examples(x, jnp.where(shuffled, mixed, y)))

        problem = row.make(family._replace(sample=sample), row.number)
        start = problem.initial(jax.random.key(0))
        estimator = mh.hypergrad.reverse(problem, row.steps, "none")
        result = mh.meta_train(
            jax.random.key(1), problem, estimator, start, optax.adam(row.rate), rounds=60, tasks=8
        )

        def judge(key, hparams):
            key, task_key = jax.random.split(key)
            task = problem.sample(task_key)
            loss, state = mh.inner.outer_loss(problem, row.steps)(key, hparams, task)
            metric = squared_error if row.family is regression else accuracy
            return loss, metric(problem.predict(state, task.query.x), task.query.y)

        both = jax.tree.map(lambda a, b: jnp.stack([a, b]), start, result.hparams)
        keys = jax.random.split(jax.random.key(2), 200)
        losses, scores = jax.vmap(lambda h: jax.vmap(judge, (0, None))(keys, h))(both)
        return Trained(
            *losses.mean(axis=1),
            result.skipped,
            scores[1].mean(),
            scores[1].std() / 200**0.5,
            start,
            result.hparams,
        )

    return functools.cache(jax.jit(run))


@pytest.mark.parametrize("name", TRAINED, scope="module")
def test_meta_training_improves_fresh_tasks(name):
    trained = meta_trained(name)(False)
    assert trained.skipped == 0
    assert trained.after < TABLE[name].ratio * trained.before
    chex.assert_trees_all_equal_shapes_and_dtypes(trained.start, trained.learned)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(trained.learned))


@pytest.mark.parametrize("name", CLASSIFIERS, scope="module")
def test_support_labels_are_all_that_tells_the_classes(name):
    """With shuffled ones even a trained learner knows nothing: a leak of the query would show."""
    real, shuffled = meta_trained(name)(False), meta_trained(name)(True)
    assert real.accuracy > 1 / WAYS + 0.1
    # A class keeps some of its own labels by chance, which is as likely to help as to mislead.
    assert abs(shuffled.accuracy - 1 / WAYS) < 4 * shuffled.error
