"""What every estimator tells about its result."""

import chex
import jax.numpy as jnp
import optax

from metahpo.base import HParams, Key, Task


def gradient_info(loss: chex.Array, grad: HParams) -> dict[str, chex.Array]:
    """``grad_norm`` f[] and ``finite`` bool[], which also covers the loss."""
    norm = optax.tree.norm(grad)
    return {"grad_norm": norm, "finite": jnp.isfinite(norm) & jnp.isfinite(loss)}


def no_memory(key: Key, hparams: HParams, task: Task) -> tuple[()]:
    """The ``init`` of every estimator that keeps nothing from one estimate to the next."""
    del key, hparams, task
    return ()
