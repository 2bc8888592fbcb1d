"""Families of few-shot tasks: criteria, metric and the check of the head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.problems import Episode, Examples

KEY = jax.random.key(0)
SCORES = jnp.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])


def linear(outputs: int) -> mh.Network:
    return mh.Network(
        init=lambda key, x: jax.random.normal(key, (x.shape[-1], outputs)),
        apply=lambda params, x: x @ params,
    )


def sample(key):
    x = jax.random.normal(key, (4, 2))
    return Episode(Examples(x, jnp.array([0, 1, 2, 0])), Examples(2 * x, jnp.array([2, 1, 0, 0])))


def test_cross_entropy_is_minus_the_log_probability_of_the_labels():
    p = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)
    expected = -(np.log(p[0, 2]) + np.log(p[1, 1])) / 2
    assert mh.problems.cross_entropy(SCORES, jnp.array([2, 1])) == pytest.approx(expected)


def test_accuracy_is_the_share_of_largest_logits():
    assert mh.problems.accuracy(SCORES, jnp.array([0, 0])) == 0.5


def test_squared_error_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match="of one shape"):
        mh.problems.squared_error(jnp.zeros((3, 1)), jnp.zeros(3))


def test_loss_is_the_criterion_on_the_named_part():
    family = mh.problems.few_shot(sample, linear(3), mh.problems.cross_entropy, ways=3)
    episode = sample(KEY)
    params = family.init(KEY, episode)
    for part in ("support", "query"):
        x, y = getattr(episode, part)
        assert family.loss(params, episode, part) == mh.problems.cross_entropy(x @ params, y)


def test_a_head_that_does_not_fit_the_ways_is_refused_with_both_numbers():
    family = mh.problems.few_shot(sample, linear(5), mh.problems.cross_entropy, ways=3)
    params = family.init(KEY, sample(KEY))
    with pytest.raises(ValueError, match="5 outputs.*3 ways"):
        family.loss(params, sample(KEY), "support")


def test_a_single_way_is_refused():
    with pytest.raises(ValueError, match="ways must be a whole number of at least 2, got 1"):
        mh.problems.few_shot(sample, linear(1), mh.problems.cross_entropy, ways=1)


def test_what_is_no_network_is_refused():
    with pytest.raises(ValueError, match="init and apply, got a function without"):
        mh.problems.few_shot(sample, lambda params, x: x, mh.problems.cross_entropy)


def test_training_predicts_with_the_trained_parameters():
    family = mh.problems.few_shot(sample, linear(3), mh.problems.cross_entropy, ways=3)
    problem = mh.meta.maml(family, learning_rate=0.5)
    params = problem.initial(KEY)
    state = mh.inner.unroll(problem, steps=2)(KEY, params, sample(KEY))
    x = jnp.ones((1, 2))
    np.testing.assert_allclose(problem.predict(state, x), x @ state.params)
    assert not np.allclose(state.params, params)
