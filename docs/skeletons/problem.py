"""A complete problem to start from: linear regression whose rate and regulariser are tuned.

Copy it to metahpo/problems/<name>.py and replace what the comments point at.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo.base import HParams, Key, Problem, TaskFamily
from metahpo.problems.training import training
from metahpo.space import Float


class Part(NamedTuple):
    """Some examples: ``x`` f[n, d] and ``y`` f[n]."""

    x: chex.Array
    y: chex.Array


# A task is arrays of fixed shapes, so that many tasks can be stacked and vmapped.
class Regression(NamedTuple):
    """One task: what training sees and what validation sees."""

    support: Part
    query: Part


# What a search tunes; decoded values reach the functions below as ``hparams``, always traced.
SPACE = {"learning_rate": Float(1e-3, 1.0, log=True), "l2": Float(1e-3, 10.0, log=True)}


def linear_regression(
    examples: int = 20, features: int = 10, noise: float = 0.5, l2: chex.Numeric = 0.0
) -> TaskFamily:
    """Noisy observations of a random linear function.

    Args:
        examples: of each part, at least 1.
        features: ``d``, at least 1.
        noise: standard deviation of the observations around the function.
        l2: weight of the penalty ``|w|**2 / 2`` in the training loss; may be traced.

    Returns:
        A TaskFamily whose params are ``f[d]``.  Descriptor, f[1]: the log of the observations'
        root mean square.

    Raises:
        ValueError: if ``examples`` or ``features`` is below 1.
    """
    # Static mistakes are refused here, with the rule and the value.
    for name, value in {"examples": examples, "features": features}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")

    def sample(key: Key) -> Regression:
        weights_key, *part_keys = jax.random.split(key, 3)  # a key has one use: split it
        weights = jax.random.normal(weights_key, (features,))

        def part(key: Key) -> Part:
            x_key, noise_key = jax.random.split(key)
            x = jax.random.normal(x_key, (examples, features))
            return Part(x, x @ weights + noise * jax.random.normal(noise_key, (examples,)))

        return Regression(*(part(key) for key in part_keys))

    def init(key: Key, task: Regression) -> chex.Array:
        del key  # any model does here: flax's init, or a plain array
        return jnp.zeros_like(task.support.x[0])

    def loss(params: chex.Array, task: Regression, split: str) -> chex.Array:
        part = task.support if split == "support" else task.query
        error = jnp.mean((part.x @ params - part.y) ** 2) / 2
        # What regularises belongs to training alone: validation judges the error.
        return error + l2 * jnp.sum(params**2) / 2 if split == "support" else error

    def describe(task: Regression) -> chex.Array:
        # Only what a user knows before training; never the query part.
        return jnp.log(jnp.sqrt(jnp.mean(task.support.y**2)))[None]

    return TaskFamily(sample, init, loss, describe)


def regression_problem(examples: int = 20, features: int = 10, noise: float = 0.5) -> Problem:
    """Gradient descent on ``linear_regression``; its hyperparameters are those of ``SPACE``."""
    # The optimiser and the configured family are built inside the trace, once for every member, so
    # another number compiles nothing.
    return training(
        linear_regression(examples, features, noise),
        optimizer=lambda h: optax.sgd(h["learning_rate"]),
        configure=lambda h: linear_regression(examples, features, noise, h["l2"]),
    )


# Where training is not "gradients into an optax optimiser", write the five functions by hand.
def newton_problem(examples: int = 20, features: int = 10, noise: float = 0.5) -> Problem:
    """The same tuned for its regulariser alone; one step solves for the weights."""
    family = linear_regression(examples, features, noise)

    def init(key: Key, hparams: HParams, task: Regression) -> chex.Array:
        del hparams
        return family.init(key, task)

    def step(key: Key, hparams: HParams, task: Regression, state: chex.Array) -> chex.Array:
        del key, state
        x, y = task.support
        gram = x.T @ x / len(y) + hparams["l2"] * jnp.eye(x.shape[1], dtype=x.dtype)
        return jnp.linalg.solve(gram, x.T @ y / len(y))

    def loss(key: Key, hparams: HParams, task: Regression, state: chex.Array) -> chex.Array:
        del key, hparams
        return family.loss(state, task, "query")

    return Problem(family.sample, init, step, loss, family.describe)
