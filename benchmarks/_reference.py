"""The problem on which hypergradients are measured: a tanh MLP trained by gradient descent.

Hyperparameters: one weight per training example, the L2 coefficient and the learning rate.  All
arrays come from numpy, the initial parameters among them, so that every peer gets the same ones.
``hand_written`` is the program that a JAX user would write without the library.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo.base import HParams, Params, Problem, PyTree, TaskFamily


class Size(NamedTuple):
    """A network's layers, the examples of either split, and the steps of a training."""

    layers: tuple[int, ...]
    batch: int
    steps: int


REFERENCE = Size((256, 256, 256, 256, 10), batch=256, steps=64)
SMALL = Size((16, 32, 4), batch=32, steps=100)


class Data(NamedTuple):
    """A task: either split is ``(x f[n, features], y i32[n])``; ``init`` the first parameters."""

    support: tuple[chex.Array, chex.Array]
    query: tuple[chex.Array, chex.Array]
    init: Params


def data(size: Size, seed: int = 0, tasks: int | None = None) -> Data:
    """A task of numpy arrays in f64, or ``tasks`` of them with a leading axis.

    The classes are those that a random linear teacher tells apart.
    """
    rng = np.random.default_rng(seed)
    lead = () if tasks is None else (tasks,)
    teacher = rng.normal(size=(*lead, size.layers[0], size.layers[-1]))

    def split() -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(*lead, size.batch, size.layers[0]))
        return x, np.argmax(x @ teacher, axis=-1).astype(np.int32)

    init = [
        (rng.normal(size=(*lead, a, b)) / np.sqrt(a), np.zeros((*lead, b)))
        for a, b in zip(size.layers, size.layers[1:], strict=False)
    ]
    return Data(split(), split(), init)


def hparams(size: Size, seed: int = 1) -> HParams:
    """``weights`` f[batch] of the examples, ``l2`` f[] and ``lr`` f[], numpy arrays in f64."""
    weights = np.random.default_rng(seed).uniform(0.5, 1.5, size.batch)
    return {"weights": weights, "l2": np.array(1e-3), "lr": np.array(0.1)}


def cast(tree: PyTree, dtype: Any = jnp.float32) -> PyTree:
    """The same arrays on the device, floats as ``dtype``."""

    def leaf(x: Any) -> chex.Array:
        return jnp.asarray(x, dtype if np.issubdtype(np.asarray(x).dtype, np.floating) else None)

    return jax.tree.map(leaf, tree)


def apply(params: Params, x: chex.Array) -> chex.Array:
    """Scores ``f[n, classes]``."""
    *hidden, (last, bias) = params
    for weight, shift in hidden:
        x = jnp.tanh(x @ weight + shift)
    return x @ last + bias


def train_loss(params: Params, hparams: HParams, x: chex.Array, y: chex.Array) -> chex.Array:
    """Cross entropy with a weight per example, and the parameters' squares."""
    losses = optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y)
    squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
    return jnp.mean(hparams["weights"] * losses) + hparams["l2"] / 2 * squares


def outer_loss(params: Params, x: chex.Array, y: chex.Array) -> chex.Array:
    """Cross entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y).mean()


def problem() -> Problem:
    """The reference as a user of the library describes it: a family and an optax optimiser."""

    def family(hparams: HParams | None) -> TaskFamily:
        def loss(params: Params, task: Data, split: str) -> chex.Array:
            if split == "query" or hparams is None:
                return outer_loss(params, *task.query)
            return train_loss(params, hparams, *task.support)

        return TaskFamily(
            lambda key: data(SMALL), lambda key, task: task.init, loss, lambda task: jnp.zeros(0)
        )

    return mh.problems.training(family(None), lambda h: optax.sgd(h["lr"]), family)


def hand_written(
    steps: int, checkpoint: bool = False, unroll: int = 1
) -> Callable[[HParams, Data], chex.Array]:
    """The outer loss by a plain scan over gradient descent, every step kept or computed again."""

    def train(hparams: HParams, task: Data) -> chex.Array:
        def step(params: Params, _: None) -> tuple[Params, None]:
            grads = jax.grad(train_loss)(params, hparams, *task.support)
            return jax.tree.map(lambda p, g: p - hparams["lr"] * g, params, grads), None

        body = jax.checkpoint(step, prevent_cse=False) if checkpoint else step
        params, _ = jax.lax.scan(body, task.init, None, length=steps, unroll=unroll)
        return outer_loss(params, *task.query)

    return train
