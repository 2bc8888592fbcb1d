"""A small convolutional network with batch normalisation: in metahpo, in flax and optax alone."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import metahpo as mh
from metahpo.base import HParams, Key, Problem

BATCH, EXAMPLES, CLASSES = 32, 400, 10
SPACE = {"learning_rate": mh.Float(1e-4, 1e-1, log=True)}


class Network(nnx.Module):
    """Two convolutions, of 16 and 32 filters, on images of 8 x 8, each with batch normalisation."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.first_norm = nnx.BatchNorm(16, rngs=rngs)
        self.second = nnx.Conv(16, 32, (3, 3), strides=2, rngs=rngs)
        self.second_norm = nnx.BatchNorm(32, rngs=rngs)
        self.last = nnx.Linear(4 * 4 * 32, CLASSES, rngs=rngs)

    def __call__(self, x: chex.Array) -> chex.Array:
        """Logits."""
        x = nnx.relu(self.first_norm(self.first(x)))
        x = nnx.relu(self.second_norm(self.second(x)))
        return self.last(x.reshape(x.shape[0], -1))


def data() -> Any:
    """Random images and labels; the numbers do not matter for the time."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(EXAMPLES + 101, 8, 8, 1)).astype(np.float32)
    y = generator.integers(CLASSES, size=len(x)).astype(np.int32)
    return mh.problems.split(x, y, train=EXAMPLES, validation=100)


def problem() -> Problem:
    """As a user writes it."""

    def loss(model: Network, batch: Any) -> chex.Array:
        return mh.problems.cross_entropy(model(batch.x), batch.y)

    optimizer = lambda h: optax.adam(h["learning_rate"])  # noqa: E731
    return mh.problems.nnx(Network, loss, data(), optimizer, batch_size=BATCH)


def plain_training(steps: int) -> Callable[[Key, HParams, Any], chex.Array]:
    """The validation loss of one training, in flax and optax alone."""

    def train(key: Key, hparams: HParams, task: Any) -> chex.Array:
        init_key, step_key = jax.random.split(key)
        graph, params, statistics = nnx.split(Network(nnx.Rngs(init_key)), nnx.Param, nnx.BatchStat)
        optimizer = optax.adam(hparams["learning_rate"])
        x, y = jnp.asarray(task.support.x), jnp.asarray(task.support.y)

        def step(carry: Any, key: Key) -> tuple[Any, None]:
            params, statistics, state = carry
            rows = jax.random.randint(key, (BATCH,), 0, EXAMPLES)

            def loss(params: Any) -> tuple[chex.Array, Any]:
                # Variables of this trace, which the layers may change.
                model = nnx.merge(graph, params, jax.tree.map(lambda x: x, statistics))
                model.train()
                losses = optax.softmax_cross_entropy_with_integer_labels(model(x[rows]), y[rows])
                return losses.mean(), nnx.split(model, nnx.Param, nnx.BatchStat)[2]

            grad, statistics = jax.grad(loss, has_aux=True)(params)
            updates, state = optimizer.update(grad, state)
            return (optax.apply_updates(params, updates), statistics, state), None

        carry = (params, statistics, optimizer.init(params))
        (params, statistics, _), _ = jax.lax.scan(step, carry, jax.random.split(step_key, steps))
        model = nnx.merge(graph, params, statistics)
        model.eval()
        logits = model(jnp.asarray(task.query.x))
        return optax.softmax_cross_entropy_with_integer_labels(logits, task.query.y).mean()

    return train
