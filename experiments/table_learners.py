"""Learners of tables, with their spaces and what they lose on validation rows.

Inputs are standardised on the training rows; the loss is the balanced error.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

import metahpo as mh

TREES = 32
STEPS, BATCH = 200, 32  # of the perceptron's training
WIDTH = 64
COLUMNS, CLASSES, ROWS = (16, 64), 10, 312  # to which tables are padded: few programs


class Split(NamedTuple):
    """Training and validation rows: ``f64[N, F]`` and ``i64[N]`` each."""

    x: np.ndarray
    y: np.ndarray
    x_valid: np.ndarray
    y_valid: np.ndarray


class Learner(NamedTuple):
    """What is tuned.

    Attributes:
        space: of its hyperparameters.
        default: those that its users start with.
        losses: ``(split, configurations, seed) -> f[C]``, balanced errors.
    """

    space: dict[str, Any]
    default: dict[str, Any]
    losses: Callable[[Split, list[dict[str, Any]], int], np.ndarray]


def halves(x: np.ndarray, y: np.ndarray, seed: int) -> Split:
    """Every class half in training, half in validation; standardised by the training rows."""
    order = np.random.default_rng(seed).permutation(len(y))
    rank = np.empty(len(y), int)
    for label in np.unique(y):
        own = order[y[order] == label]
        rank[own] = np.arange(len(own))
    train = rank % 2 == 0
    mean, std = x[train].mean(0), x[train].std(0)
    scaled = (x - mean) / np.where(std > 0, std, 1.0)
    return Split(scaled[train], y[train], scaled[~train], y[~train])


def balanced_error(said: np.ndarray, y: np.ndarray) -> float:
    """One minus the mean over classes of the share of their rows that are recognised."""
    return float(np.mean([(said[y == label] != label).mean() for label in np.unique(y)]))


def sklearn_losses(
    make: Callable[..., Any], split: Split, configurations: list[dict[str, Any]], seed: int
) -> np.ndarray:
    """Of a class of scikit-learn, by its own names."""
    fitted = [
        make(random_state=seed, **hparams).fit(split.x, split.y) for hparams in configurations
    ]
    return np.array([balanced_error(one.predict(split.x_valid), split.y_valid) for one in fitted])


def perceptron_losses(split: Split, configurations: list[dict[str, Any]], seed: int) -> np.ndarray:
    """Of all configurations in one program."""
    columns = min(size for size in COLUMNS if size >= split.x.shape[1])
    padded = [
        np.pad(x, ((0, ROWS - len(x)), (0, columns - x.shape[1]))).astype(np.float32)
        for x in (split.x, split.x_valid)
    ]
    target = np.pad(split.y, (0, ROWS - len(split.y)))
    hparams = {
        name: jnp.asarray([float(one[name]) for one in configurations])
        for name in configurations[0]
    }
    count, classes = len(split.y), split.y.max() + 1
    said = _trained(jax.random.key(seed), hparams, padded[0], target, count, classes, padded[1])
    return np.array(
        [balanced_error(row[: len(split.y_valid)], split.y_valid) for row in np.asarray(said)]
    )


@jax.jit
def _trained(
    key: jax.Array,
    hparams: dict[str, jax.Array],
    x: jax.Array,
    y: jax.Array,
    count: jax.Array,
    classes: jax.Array,
    x_valid: jax.Array,
) -> jax.Array:
    """``i32[C, ROWS]``: the classes that perceptrons tell of the validation rows."""
    absent = jnp.where(jnp.arange(CLASSES) < classes, 0.0, -1e9)

    def said(weights, h, x, key):
        on = jnp.arange(WIDTH) < h["width"]
        kept = 1 - h["dropout"]

        def drop(z, key):
            return jnp.where(jax.random.bernoulli(key, kept, z.shape), z / kept, 0.0)

        keys = None if key is None else jax.random.split(key)
        z = jax.nn.relu(x @ weights["in"] + weights["in bias"]) * on
        z = z if keys is None else drop(z, keys[0])
        second = jax.nn.relu(z @ weights["mid"] + weights["mid bias"]) * on
        second = second if keys is None else drop(second, keys[1])
        z = jnp.where(h["layers"] > 1, second, z)
        return z @ weights["out"] + weights["out bias"] + absent

    def one(h):
        init_key, step_key = jax.random.split(key)
        a, b, c = jax.random.split(init_key, 3)
        fan = h["width"]
        weights = {
            "in": jax.random.normal(a, (x.shape[1], WIDTH)) * jnp.sqrt(2 / x.shape[1]),
            "mid": jax.random.normal(b, (WIDTH, WIDTH)) * jnp.sqrt(2 / fan),
            "out": jax.random.normal(c, (WIDTH, CLASSES)) * jnp.sqrt(1 / fan),
            "in bias": jnp.zeros(WIDTH),
            "mid bias": jnp.zeros(WIDTH),
            "out bias": jnp.zeros(CLASSES),
        }
        rate = optax.cosine_decay_schedule(h["learning_rate"], STEPS)
        optimizer = optax.adamw(rate, weight_decay=h["weight_decay"])

        def step(carry, key):
            weights, state = carry
            row_key, drop_key = jax.random.split(key)
            rows = jax.random.randint(row_key, (BATCH,), 0, count)

            def loss(weights):
                logits = said(weights, h, x[rows], drop_key)
                return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

            updates, state = optimizer.update(jax.grad(loss)(weights), state, weights)
            return (optax.apply_updates(weights, updates), state), None

        start = weights, optimizer.init(weights)
        (weights, _), _ = jax.lax.scan(step, start, jax.random.split(step_key, STEPS))
        return said(weights, h, x_valid, None).argmax(-1)

    return jax.vmap(one)(hparams)


WEIGHTS = mh.Choice((None, "balanced"))
LEARNERS = {
    "mlp": Learner(
        {
            "learning_rate": mh.Float(1e-4, 1e-1, log=True),
            "weight_decay": mh.Float(1e-4, 10.0, log=True),
            "dropout": mh.Float(0.0, 0.6),
            "width": mh.Int(4, WIDTH, log=True),
            "layers": mh.Int(1, 2),
        },
        # optax's weight decay, and the rate that most papers start with.
        {"learning_rate": 1e-3, "weight_decay": 1e-4, "dropout": 0.0, "width": 64, "layers": 1},
        perceptron_losses,
    ),
    "random_forest": Learner(
        {
            "max_features": mh.Float(0.05, 1.0),
            "min_samples_leaf": mh.Int(1, 32, log=True),
            "criterion": mh.Choice(("gini", "entropy")),
            "class_weight": WEIGHTS,
        },
        # The square root of 16 columns.
        {
            "max_features": 0.25, "min_samples_leaf": 1, "criterion": "gini", "class_weight": None,
        },
        partial(sklearn_losses, partial(RandomForestClassifier, n_estimators=TREES, n_jobs=1)),
    ),
    "svc": Learner(
        {
            "C": mh.Float(1e-2, 1e3, log=True),
            "gamma": mh.Float(1e-4, 1e1, log=True),
            "class_weight": WEIGHTS,
        },
        # 1 / columns, of 16 standardised ones.
        {"C": 1.0, "gamma": 1 / 16, "class_weight": None},
        partial(sklearn_losses, SVC),
    ),
}  # fmt: skip
