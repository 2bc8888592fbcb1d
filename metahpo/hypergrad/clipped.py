"""An estimator whose gradients are no longer than a norm."""

import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Estimate, Estimator, HParams, Key, PyTree, Task
from metahpo.diagnostics import scaled_norm


def clipped(estimator: Estimator, norm: float) -> Estimator:
    """Shortens every task's gradient to ``norm``, so that one chaotic training cannot drown all.

    Clipping in the optimiser (``optax.clip_by_global_norm``) acts on the mean over the tasks, which
    a single exploding gradient has taken over by then.  The mean of clipped gradients is biased
    where some are clipped, towards the tasks whose gradients are short.

    Args:
        estimator: any.
        norm: the longest Euclidean norm over all hyperparameters of one estimate, positive.

    Returns:
        An Estimator with the memory and the ``info`` of the given one, in which ``grad_norm`` is
        that before clipping, and ``clipped`` bool[], whether it was longer.  A gradient that is
        not finite stays so.

    Raises:
        ValueError: if ``norm`` is not positive.

    Example:
        >>> import metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> estimator = clipped(mh.hypergrad.reverse(problem, steps=1), norm=1.0)
        >>> h = {"x": jnp.array(3.0)}
        >>> estimate, _ = jax.jit(estimator.estimate)(jax.random.key(0), h, None, ())
        >>> float(estimate.grad["x"]), float(estimate.info["grad_norm"])
        (1.0, 6.0)
    """
    checks.record("estimator", estimator, Estimator, "a function of mh.hypergrad")
    checks.positive(norm=norm)

    def estimate(key: Key, hparams: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        result, memory = estimator.estimate(key, hparams, task, memory)
        # By the largest entry first: the square of a gradient that explodes overflows.
        scale, scaled = scaled_norm(jax.tree.leaves(result.grad))
        long = scale * scaled > norm
        factor = jnp.where(long, norm / jnp.where(scaled > 0, scaled, 1), 1)

        def shortened(leaf: jax.Array) -> jax.Array:
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            return jnp.where(long, leaf / scale * factor, leaf).astype(leaf.dtype)

        grad = jax.tree.map(shortened, result.grad)
        return result._replace(grad=grad, info=result.info | {"clipped": long}), memory

    return estimator._replace(estimate=estimate, objective=None)
