"""Losses and accuracy: right on what fits, refused by name on what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.problems import accuracy, cross_entropy, squared_error

LOGITS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
Y = np.array([0, 3, 1, 2, 2, 0])


def test_cross_entropy_is_minus_the_mean_log_probability():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    expected = -np.log(p[np.arange(6), Y]).mean()
    np.testing.assert_allclose(cross_entropy(LOGITS, Y), expected, rtol=1e-6)
    np.testing.assert_allclose(
        cross_entropy(LOGITS.reshape(2, 3, 4), Y.reshape(2, 3)), expected, rtol=1e-6
    )


def test_accuracy_counts_the_largest_logit():
    np.testing.assert_allclose(accuracy(LOGITS, Y), (LOGITS.argmax(1) == Y).mean(), rtol=1e-6)


@pytest.mark.parametrize("criterion", [cross_entropy, accuracy])
@pytest.mark.parametrize(
    ("outputs", "y", "rule"),
    [
        (LOGITS, Y[:, None], "leave out the labels' last axis"),
        (LOGITS, np.eye(4, dtype=int)[Y], "labels are class numbers"),
        (np.zeros((6, 4, 5)), np.zeros((6, 5), int), "the classes must be the last axis"),
        (LOGITS, Y.astype(np.float32), "whole numbers"),
        (LOGITS[:, :1], Y, "two or more classes"),
        (LOGITS[:, 0], Y, "two or more classes"),
        (LOGITS, Y - 1, r"0 \.\.\. 3 for 4 outputs, got \[-1\]"),
        (LOGITS, Y + 1, r"0 \.\.\. 3 for 4 outputs, got \[4\]"),
    ],
    ids=[
        "an axis too many",
        "one-hot",
        "channels first",
        "floats",
        "one column",
        "no classes",
        "below",
        "above",
    ],
)
def test_labels_and_logits_that_do_not_fit_are_refused(criterion, outputs, y, rule):
    with pytest.raises(ValueError, match=rule):
        criterion(outputs, y)


@pytest.mark.parametrize("criterion", [cross_entropy, accuracy])
@pytest.mark.parametrize("wrong", [-1, 4])
def test_a_traced_label_out_of_range_is_not_taken_for_another_class(criterion, wrong):
    assert np.isnan(jax.jit(criterion)(LOGITS, np.append(Y[:-1], wrong)))


def test_squared_error_refuses_what_would_broadcast():
    with pytest.raises(ValueError, match="one shape"):
        squared_error(jnp.zeros((3, 1)), jnp.zeros(3))
    np.testing.assert_allclose(squared_error(jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1))), 5.0)


@pytest.mark.parametrize("criterion", [cross_entropy, accuracy])
def test_means_keep_their_digits_in_half_precision(criterion):
    logits, y = np.tile(LOGITS, (100, 1)), np.tile(Y, 100)
    half = criterion(jnp.asarray(logits, jnp.bfloat16), y)
    assert half.dtype == jnp.float32
    rounded = np.asarray(jnp.asarray(logits, jnp.bfloat16), np.float32)
    np.testing.assert_allclose(half, criterion(rounded, y), rtol=1e-5)


CRITERIA = [cross_entropy, accuracy]


@pytest.mark.parametrize("criterion", [*CRITERIA, squared_error])
def test_a_weight_counts_an_example_so_many_times(criterion):
    y = LOGITS[::-1] if criterion is squared_error else Y
    weight = np.array([2, 0, 1, 0, 3, 1])
    repeated = criterion(np.repeat(LOGITS, weight, 0), np.repeat(y, weight, 0))
    for same in (weight, weight.astype(float), jnp.asarray(weight, jnp.bfloat16)):
        np.testing.assert_allclose(criterion(LOGITS, y, same), repeated, rtol=1e-6)
    halves = jax.jit(criterion)(LOGITS, y, weight / 2)
    np.testing.assert_allclose(halves, repeated, rtol=1e-6)
    whole = criterion(LOGITS, y, np.ones(6, bool))
    np.testing.assert_allclose(whole, criterion(LOGITS, y), rtol=1e-6)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_where_the_weight_is_0_anything_may_stand(criterion):
    weight = np.array([1, 1, 0, 1, 0, 1])
    y, logits = np.where(weight, Y, -1), np.where(weight[:, None], LOGITS, np.nan)
    expected = criterion(LOGITS[weight > 0], Y[weight > 0])
    for way in (criterion, jax.jit(criterion)):
        np.testing.assert_allclose(way(logits, y, weight), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"got \[-1\]"):
        criterion(LOGITS, y, np.ones(6))


@pytest.mark.parametrize("criterion", [*CRITERIA, squared_error])
def test_weights_of_another_shape_are_refused(criterion):
    y = LOGITS if criterion is squared_error else Y
    for weight in (np.ones(5), np.ones((6, 1)), np.ones(())):
        if criterion is squared_error and weight.ndim == 2:
            continue
        with pytest.raises(ValueError, match=r"weights must be \[6\]"):
            criterion(LOGITS, y, weight)


def test_weights_may_belong_to_places_of_a_sequence():
    weight = np.array([[1, 1, 0], [1, 0, 0]])
    sequences = LOGITS.reshape(2, 3, 4), Y.reshape(2, 3)
    rows = weight.ravel() > 0
    expected = cross_entropy(LOGITS[rows], Y[rows])
    np.testing.assert_allclose(cross_entropy(*sequences, weight), expected, rtol=1e-6)


def test_a_diverged_network_does_not_score_as_chance_does():
    logits = LOGITS.copy()
    logits[2, 1] = np.nan
    assert np.isnan(accuracy(logits, Y)) and np.isnan(jax.jit(accuracy)(logits, Y))
    # A class that is left out is no divergence.
    logits[2] = [-np.inf, 1.0, -np.inf, 0.0]
    assert np.isfinite(accuracy(logits, Y))


def test_whole_numbers_and_complex_numbers_are_values_too():
    np.testing.assert_allclose(squared_error(np.array([[3], [1]]), np.array([[1], [1]])), 2.0)
    error = squared_error(np.array([[1 + 2j]]), np.array([[0j]]))
    assert error.dtype == jnp.float32 and error == 5.0
    assert accuracy(np.array([[1, 2], [2, 1]]), np.array([1, 1])) == 0.5
