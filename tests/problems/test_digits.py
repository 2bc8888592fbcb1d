"""The digits tasks: parts never overlap, noise is what it says, losses are those of the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import metahpo as mh
from metahpo.problems.digits import MAX_TRAIN, Part, load_pools

FAMILY = mh.problems.digits()
TASKS = jax.jit(jax.vmap(FAMILY.sample))(jax.random.split(jax.random.key(0), 200))


def task(i):
    return jax.tree.map(lambda x: x[i], TASKS)


def test_every_image_is_in_exactly_one_pool():
    data = load_digits()
    x = ((data.data - data.data.mean()) / data.data.std()).astype(np.float32)
    pooled = np.concatenate([pool[0] for pool in load_pools()])
    assert pooled.shape == x.shape
    # All 1,797 images differ, so equal sorted rows mean that each one is there once.
    assert len(np.unique(x, axis=0)) == len(x)
    np.testing.assert_array_equal(np.unique(pooled, axis=0), np.unique(x, axis=0))


def test_tasks_are_drawn_as_described():
    sizes, counts = np.asarray(TASKS.size), np.asarray(TASKS.classes.sum(axis=1))
    assert sizes.min() >= 20
    assert sizes.max() <= 400
    assert set(counts) == {5, 6, 7, 8, 9, 10}
    # Log-uniform: half of the tasks are below the geometric mean, 89.
    assert abs((sizes < 89.4).mean() - 0.5) < 4 * 0.5 / np.sqrt(200)
    np.testing.assert_array_equal(TASKS.support.weight.sum(axis=1), sizes)


def test_all_labels_are_of_the_tasks_classes():
    for part in (TASKS.support, TASKS.query, TASKS.test):
        allowed = jnp.take_along_axis(TASKS.classes, part.y, axis=1)
        assert (allowed | (part.weight == 0)).all()


def test_label_noise_spoils_training_labels_alone():
    train_x, train_y = load_pools().train

    def spoiled(i):
        """The share of labels that differ from those of the nearest clean image."""
        t = task(i)
        x = np.asarray(t.support.x)[: int(t.size)]
        y = np.asarray(t.support.y)[: int(t.size)]
        nearest = ((x[:, None] - train_x[None]) ** 2).sum(-1).argmin(1)
        return (train_y[nearest] != y).mean()

    shares = np.array([spoiled(i) for i in range(40)])
    # The rate is uniform on [0, 0.4] and a random class is wrong with probability 1 - 1/K: the mean
    # is 0.2 * 0.87 = 0.17, the spread of the mean of 40 tasks about 0.016.
    assert abs(shares.mean() - 0.17) < 4 * 0.016
    for pool, part in ((load_pools().validation, TASKS.query), (load_pools().test, TASKS.test)):
        np.testing.assert_array_equal(part.y, np.tile(pool[1], (200, 1)))


def test_feature_noise_has_its_level_on_all_parts():
    for pool, part in ((load_pools().validation, TASKS.query), (load_pools().test, TASKS.test)):
        levels = np.asarray(part.x - pool[0]).std(axis=(1, 2))
        # Uniform on [0, 1]
        assert abs(levels.mean() - 0.5) < 4 * 0.29 / np.sqrt(200)
        assert levels.max() <= 1.01


def test_the_descriptor_is_what_numpy_computes_from_the_training_data():
    t = task(3)
    n, k = int(t.size), int(t.classes.sum())
    x, y = np.asarray(t.support.x, float)[:n], np.asarray(t.support.y)[:n]
    distance = ((x[:, None] - x[None]) ** 2).sum(-1) + np.diag([np.inf] * n)
    share = np.bincount(y, minlength=10) / n
    entropy = -sum(p * np.log(p) for p in share if p > 0)
    nearest = (y[distance.argmin(1)] == y).mean()
    expected = [np.log(n), k, np.log(n / k), x.std(), entropy / np.log(k), nearest]
    np.testing.assert_allclose(FAMILY.describe(t), expected, rtol=1e-3)


def test_the_descriptor_sees_nothing_but_the_training_data():
    t = task(5)
    other = t._replace(
        query=jax.tree.map(jnp.zeros_like, t.query), test=jax.tree.map(jnp.zeros_like, t.test)
    )
    np.testing.assert_array_equal(FAMILY.describe(t), FAMILY.describe(other))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_training_loss_is_the_smoothed_cross_entropy_over_the_tasks_classes(smoothing):
    family = mh.problems.digits(max_width=16, label_smoothing=smoothing)
    t = task(7)
    params = family.init(jax.random.key(1), t)
    first, second = jax.tree.map(lambda x: np.asarray(x, float), params)
    n, present = int(t.size), np.flatnonzero(np.asarray(t.classes))
    x, y = np.asarray(t.support.x, float)[:n], np.asarray(t.support.y)[:n]
    scores = np.maximum(x @ first.kernel + first.bias, 0) @ second.kernel + second.bias
    logs = scores[:, present]
    logs = logs - np.log(np.exp(logs).sum(1, keepdims=True))
    own = logs[np.arange(n), np.searchsorted(present, y)]
    expected = -((1 - smoothing) * own + smoothing * logs.mean(1)).mean()
    np.testing.assert_allclose(family.loss(params, t, "support"), expected, rtol=1e-4)


def test_accuracy_counts_the_tasks_test_images():
    t = task(2)
    params = FAMILY.init(jax.random.key(1), t)
    first, second = jax.tree.map(np.asarray, params)
    keep = np.asarray(t.test.weight) > 0
    x, y = np.asarray(t.test.x)[keep], np.asarray(t.test.y)[keep]
    scores = np.maximum(x @ first.kernel + first.bias, 0) @ second.kernel + second.bias
    guess = np.where(np.asarray(t.classes), scores, -np.inf).argmax(1)
    value = mh.problems.digits_accuracy(params, t, 64)
    np.testing.assert_allclose(value, (guess == y).mean(), rtol=1e-6)


def test_minibatches_hold_training_images_of_the_task():
    t = task(0)
    batch = mh.problems.digits_minibatch(jax.random.key(0), t, size=500)
    rows = {tuple(row) for row in np.asarray(t.support.x)[: int(t.size)].tolist()}
    assert {tuple(row) for row in np.asarray(batch.support.x).tolist()} <= rows
    assert isinstance(batch.support, Part)
    assert batch.support.x.shape == (500, 64)
    assert t.support.x.shape == (MAX_TRAIN, 64)
