"""What every meta-learner must be able to do.  A new one is one row of ``TABLE``."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import metahpo as mh
from metahpo.base import Problem, TaskFamily
from metahpo.problems import Episode, Examples, accuracy, cross_entropy, few_shot, squared_error

WAYS, INPUTS = 3, 4


def quick_options():
    """These programs compile for seconds and run for milliseconds.

    Without fused loops they compile twice as fast; not every compiler has that option.
    """
    options = {"xla_backend_optimization_level": 0}
    more = options | {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda: 0, compiler_options=more)()
    except jax.errors.JaxRuntimeError:
        return options
    return more


jit = functools.partial(jax.jit, compiler_options=quick_options())


class Net(linen.Module):
    """Smooth, so that finite differences are sharp; with the layer names that learners know."""

    outputs: int

    @linen.compact
    def __call__(self, x):
        options = {"param_dtype": x.dtype}
        x = jnp.tanh(linen.Dense(8, **options)(x))
        x = linen.LayerNorm(name="norm", **options)(x)
        return linen.Dense(self.outputs, name="head", **options)(x)


def clusters(key, shots=3):
    """Three classes around random centres, sorted by class."""
    centre_key, noise_key = jax.random.split(key)
    y = jnp.tile(jnp.repeat(jnp.arange(WAYS), shots), 2)
    centres = 1.5 * jax.random.normal(centre_key, (WAYS, INPUTS))
    return halves(centres[y] + jax.random.normal(noise_key, (y.size, INPUTS)), y)


def planes(key):
    """Linear functions: ten points to learn one from."""
    slope_key, x_key = jax.random.split(key)
    slopes = jax.random.normal(slope_key, (2, 1))
    x = jax.random.uniform(x_key, (20, 2), minval=-1.0)
    return halves(x, x @ slopes)


def halves(x, y):
    n = len(y) // 2
    return Episode(Examples(x[:n], y[:n]), Examples(x[n:], y[n:]))


def classification():
    return few_shot(clusters, Net(WAYS), cross_entropy, ways=WAYS)


def embedding():
    """For learners that bring their own head: the network is an encoder."""
    return few_shot(clusters, Net(5), cross_entropy)


def regression():
    return few_shot(planes, Net(1), squared_error)


class Row(NamedTuple):
    make: Callable[..., Problem]  # (family, number)
    family: Callable[[], TaskFamily] = classification
    steps: int = 0
    number: float = 0.1  # of the constructor, may be traced; rows without one ignore it
    criterion: bool = True  # whether the outer loss is the family's criterion of the predictions
    trained: bool = True  # whether to meta-train it; one variant of a learner is enough
    rate: float = 0.02  # of Adam, in meta-training
    ratio: float = 0.8  # meta-training lowers the loss at least to this share


TABLE = {
    "maml": Row(mh.meta.maml, steps=2),
    "meta_sgd": Row(
        lambda family, rate: mh.meta.meta_sgd(family, initial_rate=rate), regression, steps=2
    ),
    "anil": Row(mh.meta.anil, steps=3),
    "maml_plus_plus": Row(
        lambda family, rate: mh.meta.maml_plus_plus(family, 2, initial_rate=rate), steps=2
    ),
    "maml_plus_plus_multi_step": Row(
        lambda family, rate: mh.meta.maml_plus_plus(
            family, 2, initial_rate=rate, weights=mh.meta.step_weights(0.05, 2), adapt_per_step=True
        ),
        regression,
        steps=2,
        criterion=False,  # it judges every step
        trained=False,
    ),
    "imaml": Row(lambda family, rate: mh.meta.imaml(family, rate, 0.5), steps=3),
    "cavia": Row(mh.meta.cavia, regression, steps=2, number=1.0),
    "cavia_film": Row(
        lambda family, rate: mh.meta.cavia(
            family, rate, contexts=3, conditioning=lambda net: mh.meta.film(Net(6), net)
        ),
        steps=2,
        number=1.0,
        trained=False,
    ),
    "task_heads": Row(
        lambda family, rate: mh.meta.task_heads(family, rate, gradient=jax.grad),
        steps=5,
        number=0.2,
    ),
    "task_heads_learned": Row(
        lambda family, rate: mh.meta.task_heads(family, rate, fresh=False, gradient=jax.grad),
        regression,
        steps=3,
        trained=False,
    ),
    "ridge_head": Row(
        lambda family, l2: mh.meta.ridge_head(family, ways=WAYS, initial_l2=l2), embedding
    ),
    "logistic_head": Row(
        lambda family, l2: mh.meta.logistic_head(family, ways=WAYS, initial_l2=l2), embedding
    ),
    "prototypical": Row(
        lambda family, scale: mh.meta.prototypical(family, ways=WAYS, scale=scale), embedding
    ),
    "matching": Row(
        lambda family, scale: mh.meta.matching(family, ways=WAYS, scale=scale),
        embedding,
        number=5.0,
    ),
    "relation": Row(
        lambda family, _: mh.meta.relation(family, ways=WAYS, hidden=(16,)),
        embedding,
        criterion=False,
    ),
    "neural_process": Row(
        lambda family, std: mh.meta.neural_process(family, width=16, depth=1, min_std=std),
        regression,
        criterion=False,
    ),
    "attentive_neural_process": Row(
        lambda family, std: mh.meta.attentive_neural_process(
            family, width=16, depth=1, heads=2, min_std=std
        ),
        regression,
        criterion=False,
    ),
    "snail": Row(
        lambda family, _: mh.meta.snail(family, ways=WAYS, filters=8, keys=8, blocks=1),
        embedding,
        rate=0.01,
    ),
}
# By row (scope="module"), so that one worker compiles the programs of a row.
ROWS = pytest.mark.parametrize("name", list(TABLE), scope="module")
TRAINED = [name for name, row in TABLE.items() if row.trained]
CLASSIFIERS = [name for name in TRAINED if TABLE[name].family is not regression]


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
        compiled = jit(run)
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

    return functools.cache(jit(run))


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
