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
        (LOGITS, Y[:, None], "whole numbers"),
        (LOGITS, Y.astype(np.float32), "whole numbers"),
        (LOGITS[:, :1], Y, "two or more classes"),
        (LOGITS[:, 0], Y, "two or more classes"),
        (LOGITS, Y - 1, r"0 \.\.\. 3 for 4 outputs, got \[-1\]"),
        (LOGITS, Y + 1, r"0 \.\.\. 3 for 4 outputs, got \[4\]"),
    ],
    ids=["an axis too many", "floats", "one column", "no classes", "below", "above"],
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
