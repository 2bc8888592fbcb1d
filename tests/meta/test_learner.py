"""Adapt and predict, and the scores of a meta-learner on fresh episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.problems import Episode, Examples, squared_error

KEY = jax.random.key(0)


def test_adapting_takes_gradient_steps_on_the_support():
    family = mh.problems.sinusoid(shots=5, hidden=(8,))
    problem = mh.meta.maml(family, learning_rate=0.02)
    params = problem.initial(KEY)
    episode = problem.sample(jax.random.key(1))
    expected = params
    for _ in range(3):
        grads = jax.grad(family.loss)(expected, episode, "support")
        expected = jax.tree.map(lambda p, g: p - 0.02 * g, expected, grads)
    adapt, predict = mh.meta.learner(problem, steps=3)
    adapted = adapt(params, episode.support, jax.random.key(2))
    np.testing.assert_allclose(
        predict(adapted, episode.query.x),
        family.network.apply(expected, episode.query.x),
        rtol=1e-5,
    )


def test_adaptation_never_sees_the_query():
    problem = mh.meta.maml(mh.problems.sinusoid(shots=5, hidden=(8,)), learning_rate=0.02)
    adapt, _ = mh.meta.learner(problem, steps=2)
    support = problem.sample(KEY).support
    adapted = jax.jit(adapt)(problem.initial(KEY), support, KEY)  # there is none to be seen
    full = mh.inner.unroll(problem, steps=2)(KEY, problem.initial(KEY), problem.sample(KEY))
    np.testing.assert_allclose(
        *(jax.flatten_util.ravel_pytree(s.params)[0] for s in (adapted, full)), rtol=1e-5
    )


def test_a_problem_without_predictions_is_refused():
    with pytest.raises(ValueError, match="predict"):
        mh.meta.learner(mh.problems.function(lambda h: h["x"]), steps=1)


def centred(adapted, x):
    """Looks at its batch: predicts the distance from the batch's mean."""
    return x - x.mean(axis=0)


def line(key):
    x = jax.random.normal(key, (5, 1))
    return Episode(Examples(x[:2], x[:2]), Examples(x[2:], x[2:]))


IDENTITY = mh.meta.Learner(adapt=lambda hparams, support, key: support, predict=centred)


def test_modes_differ_in_what_a_prediction_may_look_at():
    scores = mh.meta.evaluate(KEY, IDENTITY, None, line, squared_error, episodes=7, chunk=3)
    keys = jax.random.split(KEY, 7)
    for key, together, alone in zip(
        keys, *(scores[m].per_episode for m in ("transductive", "inductive")), strict=True
    ):
        support, query = line(jax.random.split(key)[0])
        # An error of x - mean(batch) against x is the mean of the batch.
        assert together == pytest.approx(float(query.x.mean()) ** 2, rel=1e-4)
        means = [float(jnp.concatenate([support.x, x[None]]).mean()) ** 2 for x in query.x]
        assert alone == pytest.approx(np.mean(means), rel=1e-4)


def test_interval_is_that_of_the_mean():
    score = mh.meta.evaluate(
        KEY, IDENTITY, None, line, squared_error, episodes=50, modes=("inductive",)
    )["inductive"]
    values = np.asarray(score.per_episode, np.float64)
    assert score.mean == pytest.approx(values.mean(), rel=1e-5)
    assert score.half_width == pytest.approx(1.96 * values.std(ddof=1) / np.sqrt(50), rel=1e-4)


def test_chunks_do_not_change_the_scores():
    problem = mh.meta.maml(mh.problems.sinusoid(shots=5, hidden=(8,)), learning_rate=0.02)
    learner, hparams = mh.meta.learner(problem, steps=1), problem.initial(KEY)
    one, two = (
        mh.meta.evaluate(
            KEY, learner, hparams, problem.sample, squared_error, episodes=10, chunk=chunk
        )["transductive"].per_episode
        for chunk in (4, 10)
    )
    np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"episodes": 1}, "episodes must be a whole number of at least 2, got 1"),
        ({"chunk": 0}, "chunk must be a whole number of at least 1, got 0"),
        ({"modes": ("both",)}, "both"),
        ({"modes": ()}, "modes must be some"),
    ],
)
def test_wrong_arguments_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        mh.meta.evaluate(KEY, IDENTITY, None, line, squared_error, **wrong)


def test_a_problem_that_trains_needs_a_number_of_steps():
    problem = mh.meta.maml(mh.problems.sinusoid(shots=5, hidden=(8,)), learning_rate=0.02)
    support = problem.sample(KEY).support
    adapt, _ = mh.meta.learner(problem)
    with pytest.raises(ValueError, match=r"say how many, learner\(problem, steps\)"):
        adapt(problem.initial(KEY), support, KEY)
    adapt, _ = mh.meta.learner(problem, steps=0)  # asked for
    assert adapt(problem.initial(KEY), support, KEY) is not None
