"""What every estimator tells about its result."""

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import floats
from metahpo.base import HParams, Key, PyTree, Task


def gradient_info(loss: chex.Array, grad: HParams) -> dict[str, PyTree]:
    """The diagnostics of every estimator.

    ``grad_norm`` f[]; ``finite`` bool[], which also covers the loss; ``zero_grad``, a pytree of
    bool[] like the hyperparameters: whether a leaf's gradient is exactly zero everywhere, as it is
    for whole numbers and for hyperparameters that have no effect on the loss.
    """
    scale, scaled = scaled_norm(floats.parts(grad)[0])
    norm = scale * scaled
    return {
        "grad_norm": norm,
        "finite": jnp.isfinite(norm) & jnp.isfinite(loss),
        "zero_grad": jax.tree.map(_zero, grad),
    }


def _zero(leaf: chex.Array) -> chex.Array:
    return jnp.all(leaf == 0) if floats.is_float(leaf) else jnp.array(True)


def scaled_norm(leaves: list[chex.Array]) -> tuple[chex.Array, chex.Array]:
    """A scale f[] and the Euclidean norm f[] of the leaves over it.

    The scale is the largest entry: the square of an exploding gradient overflows long before the
    gradient does.
    """
    largest = optax.tree.max(jax.tree.map(jnp.abs, leaves)) if leaves else jnp.zeros(())
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale, optax.tree.norm([leaf / scale for leaf in leaves])


def no_memory(key: Key, hparams: HParams, task: Task) -> tuple[()]:
    """The ``init`` of every estimator that keeps nothing from one estimate to the next."""
    del key, hparams, task
    return ()


def standard_error(samples: chex.Array) -> chex.Array:
    """Of the mean over the leading axis; infinite for a single sample, which does not tell."""
    count = samples.shape[0]
    if count == 1:
        return jnp.full(samples.shape[1:], jnp.inf, samples.dtype)
    return jnp.std(samples, axis=0, ddof=1) / jnp.sqrt(count).astype(samples.dtype)
