"""Real classification tasks from scikit-learn's handwritten digits.

1,797 images of 8 x 8 pixels (Alpaydin & Kaynak 1998), shipped with scikit-learn.  The images are
cut once into three pools, class by class: for training, validation and test.  Every task draws
from the same pools, so no test image is ever seen by training, by a search's validation loss or
by meta-training, on any task.
"""

from functools import cache
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metahpo import checks
from metahpo._extras import require
from metahpo.base import Key, TaskFamily
from metahpo.problems.criteria import accuracy
from metahpo.problems.masked_mlp import Layer, MaskedMLP

CLASSES = 10
PIXELS = 64
TRAIN_PER_CLASS, VALIDATION_PER_CLASS = 80, 40
MIN_CLASSES, MIN_TRAIN, MAX_TRAIN = 5, 20, 400
MAX_LABEL_NOISE, MAX_FEATURE_NOISE = 0.4, 1.0


class Part(NamedTuple):
    """Some examples: ``x`` f[n, 64], ``y`` i32[n] and ``weight`` f[n], 0 for absent ones."""

    x: chex.Array
    y: chex.Array
    weight: chex.Array


class DigitsTask(NamedTuple):
    """One task.

    Attributes:
        support: what training sees; the first ``size`` of ``MAX_TRAIN`` rows have weight 1.
        query: what validation sees.
        test: what nobody sees before the final report.
        size: ``i32[]``, the number of training examples.
        classes: ``bool[10]``, the classes of this task.
    """

    support: Part
    query: Part
    test: Part
    size: chex.Array
    classes: chex.Array


class Pools(NamedTuple):
    """The fixed cut of the data: standardised pixels ``f32[n, 64]`` and labels ``i32[n]``."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


@cache
def load_images() -> tuple[np.ndarray, np.ndarray]:
    """All images in their published order: standardised pixels ``f32[n, 64]``, labels ``i32[n]``.

    Raises:
        ImportError: without scikit-learn (extra ``data``).
    """
    data = require("sklearn.datasets", "data").load_digits()
    x = ((data.data - data.data.mean()) / data.data.std()).astype(np.float32)
    return x, data.target.astype(np.int32)


@cache
def load_pools() -> Pools:
    """Cuts the images class by class, always in the same way.

    Raises:
        ImportError: without scikit-learn (extra ``data``).
    """
    x, y = load_images()
    order = np.random.default_rng(0).permutation(len(y))
    by_class = [order[y[order] == label] for label in range(CLASSES)]
    cuts = [0, TRAIN_PER_CLASS, TRAIN_PER_CLASS + VALIDATION_PER_CLASS, len(y)]
    parts = []
    for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
        rows = np.concatenate([members[start:stop] for members in by_class])
        parts.append((x[rows], y[rows]))
    return Pools(*parts)


def digits(
    max_width: int = 64,
    width: chex.Numeric | None = None,
    activation: chex.Numeric = 0,
    label_smoothing: chex.Numeric = 0.0,
    activations: tuple[str, ...] = ("relu", "tanh"),
) -> TaskFamily:
    """Classification of some of the digits by a masked two-layer MLP.

    A task draws 5 to 10 classes, 20 to 400 training images (log-uniformly), a label-noise rate of
    0 to 0.4 (each training label is replaced, at that rate, by a random class of the task) and a
    feature-noise level of 0 to 1 (standard deviation of Gaussian noise on the pixels of all parts,
    in units of the pixels' own).  Validation and test labels are clean.  The support loss is the
    cross-entropy with label smoothing, the query loss without.

    Args:
        max_width: hidden units that the arrays hold.
        width: hidden units in use, all by default; may be traced.
        activation: index into ``activations``; may be traced.
        label_smoothing: weight of the uniform distribution over the task's classes in the
            training targets; may be traced.
        activations: names to choose from.

    Returns:
        A TaskFamily.  The descriptor ``f[6]`` holds what can be read off the training data: log
        size, number of classes, log images per class, standard deviation of the pixels,
        entropy of the class frequencies relative to its maximum, and the leave-one-out accuracy
        of the nearest neighbour.

    Raises:
        ImportError: without scikit-learn (extra ``data``).
    """
    max_width = checks.whole("max_width", max_width)
    checks.probability("label_smoothing", label_smoothing)
    pools = load_pools()
    width = max_width if width is None else width
    network = MaskedMLP(PIXELS, max_width, CLASSES, activations)

    def sample(key: Key) -> DigitsTask:
        return _sample(key, pools)

    def init(key: Key, task: DigitsTask) -> tuple[Layer, Layer]:
        del task
        return network.init(key, width)

    def loss(params: tuple[Layer, Layer], task: DigitsTask, split: str) -> chex.Array:
        part = task.support if split == "support" else task.query
        smoothing = label_smoothing if split == "support" else 0.0
        scores = _masked(network.apply(params, part.x, width, activation), task.classes)
        uniform = task.classes / task.classes.sum()
        target = (1 - smoothing) * jax.nn.one_hot(part.y, CLASSES) + smoothing * uniform
        losses = optax.softmax_cross_entropy(scores, target)
        return jnp.sum(losses * part.weight) / jnp.sum(part.weight)

    return TaskFamily(sample, init, loss, describe)


def digits_accuracy(
    params: tuple[Layer, Layer],
    task: DigitsTask,
    width: chex.Numeric,
    activation: chex.Numeric = 0,
    activations: tuple[str, ...] = ("relu", "tanh"),
) -> chex.Array:
    """The share ``f[]`` of the test images that are classified correctly; NaN if some are NaN."""
    network = MaskedMLP(PIXELS, params[0].kernel.shape[-1], CLASSES, activations)
    scores = network.apply(params, task.test.x, width, activation)
    return accuracy(_masked(scores, task.classes), task.test.y, task.test.weight)


def digits_minibatch(key: Key, task: DigitsTask, size: int = 32) -> DigitsTask:
    """The task with ``size`` training images drawn with replacement, for ``training``."""
    size = checks.whole("size", size)
    x, y, _ = task.support
    # randint would hash four times as much, in every step of every training.
    rows = jnp.floor(jax.random.uniform(key, (size,)) * task.size).astype(jnp.int32)
    return task._replace(support=Part(x[rows], y[rows], jnp.ones(size, x.dtype)))


def _sample(key: Key, pools: Pools) -> DigitsTask:
    keys = jax.random.split(key, 8)
    count = jax.random.randint(keys[0], (), MIN_CLASSES, CLASSES + 1)
    classes = jax.random.permutation(keys[1], CLASSES) < count
    log_size = jax.random.uniform(keys[2], (), minval=np.log(MIN_TRAIN), maxval=np.log(MAX_TRAIN))
    size = jnp.clip(jnp.round(jnp.exp(log_size)), MIN_TRAIN, MAX_TRAIN).astype(jnp.int32)
    label_noise = jax.random.uniform(keys[3], (), maxval=MAX_LABEL_NOISE)
    feature_noise = jax.random.uniform(keys[4], (), maxval=MAX_FEATURE_NOISE)
    row_key, label_key, noise_key = keys[5], keys[6], keys[7]

    x, y = (jnp.asarray(array) for array in pools.train)
    # The classes' images in random order come first, so the first rows are a random subset.
    order = jnp.argsort(jax.random.uniform(row_key, y.shape) + ~classes[y])[:MAX_TRAIN]
    weight = (jnp.arange(MAX_TRAIN) < size).astype(x.dtype)
    support = Part(x[order], _noisy_labels(label_key, y[order], classes, label_noise), weight)
    query, test = (_whole(pool, classes) for pool in (pools.validation, pools.test))
    support, query, test = (
        part._replace(x=part.x + feature_noise * jax.random.normal(key, part.x.shape))
        for key, part in zip(jax.random.split(noise_key, 3), (support, query, test), strict=True)
    )
    return DigitsTask(support, query, test, size, classes)


def _whole(pool: tuple[np.ndarray, np.ndarray], classes: chex.Array) -> Part:
    """All images of a pool; those of other classes have weight 0."""
    x, y = (jnp.asarray(array) for array in pool)
    return Part(x, y, classes[y].astype(x.dtype))


def _noisy_labels(
    key: Key, labels: chex.Array, classes: chex.Array, rate: chex.Array
) -> chex.Array:
    where_key, label_key = jax.random.split(key)
    other = jax.random.categorical(label_key, jnp.log(classes), shape=labels.shape)
    return jnp.where(jax.random.uniform(where_key, labels.shape) < rate, other, labels)


def _masked(scores: chex.Array, classes: chex.Array) -> chex.Array:
    return jnp.where(classes, scores, jnp.finfo(scores.dtype).min / 2)


def describe(task: DigitsTask) -> chex.Array:
    """The descriptor ``f[6]``: sizes and simple statistics of the training data alone."""
    x, y, weight = task.support
    size, count = task.size.astype(x.dtype), task.classes.sum().astype(x.dtype)
    mean = jnp.sum(x * weight[:, None]) / (size * PIXELS)
    spread = jnp.sqrt(jnp.sum((x - mean) ** 2 * weight[:, None]) / (size * PIXELS))
    share = jnp.sum(jax.nn.one_hot(y, CLASSES) * weight[:, None], axis=0) / size
    entropy = -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0))
    squares = jnp.sum(x**2, axis=1)
    distance = squares[:, None] - 2 * x @ x.T + squares[None, :]
    hidden = (weight[None, :] == 0) | jnp.eye(len(y), dtype=bool)
    nearest = jnp.argmin(jnp.where(hidden, jnp.inf, distance), axis=1)
    agreement = jnp.sum((y[nearest] == y) * weight) / size
    return jnp.stack(
        [jnp.log(size), count, jnp.log(size / count), spread, entropy / jnp.log(count), agreement]
    )
