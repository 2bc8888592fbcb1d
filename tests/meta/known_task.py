"""A quadratic task whose adaptation and meta-gradients are known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np

from metahpo.base import TaskFamily

A, C = np.array([[2, 0.5], [0.5, 1]]), np.array([1.0, -2])
B, D = np.array([[1, -0.25], [-0.25, 1.5]]), np.array([0.5, 1])
THETA, ALPHA = np.array([3.0, -1]), 0.1

# steps: adapted parameters, query loss, MAML gradient, FOMAML gradient
KNOWN = {
    1: ((2.55, -1.2), 6.85875, (2.270625, -3.56125), (2.6, -3.8125)),
    3: (
        (1.927875, -1.48175),
        6.524633,
        (1.50468382421875, -3.2230391484375),
        (2.0483125, -4.07959375),
    ),
}


def vector(params):
    """The parameters as f[2], be they so or ``{"body": f[], "head": f[]}``."""
    return params if isinstance(params, jax.Array) else jnp.stack([params["body"], params["head"]])


def family(start=THETA) -> TaskFamily:
    """Support loss ``(t - c)' A (t - c) / 2``, query loss ``(t - d)' B (t - d) / 2``."""

    def loss(params, task, split):
        # Copies: JAX knows constants again by their place, also with another type.
        matrix, center = (x.copy() for x in ((A, C) if split == "support" else (B, D)))
        return (vector(params) - center) @ matrix @ (vector(params) - center) / 2

    return TaskFamily(
        sample=lambda key: jnp.zeros(0),
        init=lambda key, task: jax.tree.map(jnp.asarray, start),
        loss=loss,
        describe=lambda task: task,
    )


def split_family() -> TaskFamily:
    """The same with a body and a head of one number each."""
    return family({"body": THETA[0], "head": THETA[1]})


def estimate(make, problem, steps, hparams=THETA):
    """``make(problem, steps)``'s Estimate on the task."""
    estimator = make(problem, steps)

    @jax.jit
    def run(hparams):
        return estimator.estimate(jax.random.key(0), hparams, jnp.zeros(0), ())[0]

    return run(jax.tree.map(jnp.asarray, hparams))
