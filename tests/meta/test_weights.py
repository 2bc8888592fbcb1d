"""Examples with weights: padding changes nothing, and a weight of 2 is the example twice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_table import TABLE, WAYS, Row, embedding, regression

import metahpo as mh
from metahpo.problems import Episode, Examples

ROWS = TABLE | {
    # Keys of a shuffle belong to a number of rows.
    "snail": TABLE["snail"]._replace(
        make=lambda family, _: mh.meta.snail(
            family, ways=WAYS, filters=8, keys=8, blocks=1, shuffle=False
        )
    ),
    "matching_in_context": Row(
        lambda family, scale: mh.meta.matching(family, ways=WAYS, scale=scale, context_steps=2),
        embedding,
    ),
    "ridge_head_dual": Row(
        lambda family, l2: mh.meta.ridge_head(family, ways=WAYS, initial_l2=l2, form="dual"),
        embedding,
    ),
}
ORDERED = ("snail", "matching_in_context")  # which read a sequence: an example has a place, once
KEPT = np.array([0, 3, 5, 6])  # one, two and one of the three classes
WEIGHTS = np.array([2, 0, 0, 1, 0, 0, 1, 0, 0, 0])  # as many examples, so that shapes are the same


@functools.cache
def outcomes(name):
    row = ROWS[name]

    def run(task, inputs):
        problem = row.make(row.family(), row.number)
        key, hparams = jax.random.key(3), problem.initial(jax.random.key(0))
        flat, merge, _ = mh.floats.ravel(hparams)
        outer = mh.inner.outer_loss(problem, row.steps, "none")
        loss, grad = jax.value_and_grad(lambda x: outer(key, merge(x), task)[0])(flat)
        adapt, predict = mh.meta.learner(problem, row.steps)
        return loss, grad, predict(adapt(hparams, task.support, key), inputs)

    with jax.enable_x64(True):
        problem = row.make(row.family(), row.number)
        episode = jax.jit(problem.sample)(jax.random.key(1))
        run, inputs = jax.jit(run), episode.query.x
        return [
            jax.tree.map(np.asarray, run(Episode(*map(change, episode)), inputs))
            for change in (only_kept, padding, repeated, doubled)
        ]


def only_kept(examples):
    return jax.tree.map(lambda leaf: leaf[KEPT], examples)


def padding(examples):
    """In the rows that do not count there is nothing to be used."""
    counts = jnp.isin(jnp.arange(len(examples.y)), KEPT)
    nothing = -1 if jnp.issubdtype(examples.y.dtype, jnp.integer) else jnp.nan
    y = jnp.where(counts.reshape(-1, *[1] * (examples.y.ndim - 1)), examples.y, nothing)
    return Examples(jnp.where(counts[:, None], examples.x, jnp.nan), y, counts.astype(float))


def repeated(examples):
    weights = WEIGHTS[: len(examples.y)]
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, weights, axis=0), examples)


def doubled(examples):
    return examples._replace(weight=jnp.asarray(WEIGHTS[: len(examples.y)], float))


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS, scope="module")
def test_padding_with_weight_0_changes_nothing(name):
    kept, padded, *_ = outcomes(name)
    for one, other in zip(kept, padded, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-12)
    assert np.abs(kept[1]).max() > 1e-4


@pytest.mark.parametrize("name", [n for n in ROWS if n not in ORDERED], scope="module")
def test_a_weight_is_the_number_of_times_that_an_example_is_there(name):
    *_, twice, weighted = outcomes(name)
    for one, other in zip(twice, weighted, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-11)


def test_scores_of_evaluate_and_of_the_curve_are_those_of_the_queries_that_count():
    family = regression()
    problem = mh.meta.maml(family, 0.1)
    hparams = problem.initial(jax.random.key(0))

    def scores(change):
        def sample(key):
            return Episode(*map(change, family.sample(key)))

        key, metric = jax.random.key(1), mh.problems.squared_error
        some = {"episodes": 4}
        changed = problem._replace(sample=sample)
        found = mh.meta.evaluate(key, mh.meta.learner(problem, 1), hparams, sample, metric, **some)
        curve = mh.meta.adaptation_curve(key, changed, hparams, metric, steps=1, **some)
        return found["transductive"].mean, found["inductive"].mean, *curve.mean[-1:]

    plain, padded = (np.stack(jax.jit(scores, static_argnums=0)(c)) for c in (only_kept, padding))
    np.testing.assert_allclose(padded, plain, rtol=1e-5)


def test_tasks_of_different_size_are_padded_to_one_shape():
    x, y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 1])
    padded = mh.problems.padded(Examples(x, y), 5)
    assert padded.x.shape == (5, 2) and padded.weight.tolist() == [1, 1, 1, 0, 0]
    with pytest.raises(ValueError, match="at least the number of examples, 3, got 2"):
        mh.problems.padded(Examples(x, y), 2)


def test_examples_unpack_with_their_weights_or_without():
    x, y = Examples(1, 2)
    assert (x, y) == (1, 2) and Examples(1, 2, 3)._replace(y=4) == (1, 4, 3)
    x, y, weight = jax.tree.map(lambda leaf: leaf + 1, Examples(1, 2, 3))
    assert (x, y, weight) == (2, 3, 4)


def test_wrong_weights_and_criteria_without_weights_are_refused():
    family = regression()
    support, query = family.sample(jax.random.key(0))
    params = family.init(jax.random.key(0), Episode(support, query))
    for weight, rule in (
        (np.ones(3), r"must be \[10\], got \[3\]"),
        (-np.ones(10), "at least 0"),
        (np.zeros(10), "one must be positive"),
    ):
        with pytest.raises(ValueError, match=rule):
            family.loss(params, Episode(support._replace(weight=weight), query), "support")
    own = mh.problems.few_shot(
        family.sample, family.network, lambda outputs, y: jnp.mean((outputs - y) ** 2)
    )
    with pytest.raises(ValueError, match="weight="):
        own.loss(params, Episode(support._replace(weight=np.ones(10)), query), "support")


def test_a_minibatch_has_no_padding():
    weight = np.array([0, 1, 0, 0, 1])
    task = Episode(Examples(np.arange(5), np.arange(5), weight.astype(bool)), None)
    batch = mh.problems.minibatch(200)(jax.random.key(0), task).support
    assert set(batch.x.tolist()) == {1, 4} and (batch.weight == 1).all()


def test_an_episode_is_checked_without_its_padding():
    x, y = np.array([[0.0], [1.0], [np.nan]]), np.array([0, 1, -1])
    mh.problems.check_episode(Episode(Examples(x, y, np.array([1, 1, 0])), None), ways=2)
    with pytest.raises(ValueError, match=r"support\.weight must be finite and at least 0"):
        mh.problems.check_episode(Episode(Examples(x, y, np.array([1, -1, 0])), None), ways=2)
