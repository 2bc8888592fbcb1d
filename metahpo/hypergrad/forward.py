"""The exact hypergradient by forward mode: memory does not grow with the number of steps."""

import jax
import jax.numpy as jnp

from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, State, Task
from metahpo.diagnostics import gradient_info, no_memory
from metahpo.hypergrad import floats
from metahpo.inner import outer_loss


def forward(problem: Problem, steps: int) -> Estimator:
    """Tangents of all ``h`` hyperparameters pushed along with training (Franceschi et al. 2017).

    Equal to ``reverse`` up to rounding.  Take it for few hyperparameters and long trainings: the
    cost is about ``1 + 1.8 h`` trainings and the memory ``1 + h`` states, whatever ``steps`` is.
    Training itself runs once; only the tangents are vmapped.

    Args:
        problem: the training process.
        steps: number of inner updates, at least 0.

    Returns:
        An Estimator without a memory.  ``info``: ``state`` (final training state), ``grad_norm``,
        ``finite``.

    Raises:
        ValueError: if ``steps`` is negative; when called, if no hyperparameter is a float.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> estimator = mh.hypergrad.forward(problem, steps=1)
        >>> estimate, _ = estimator.estimate(jax.random.key(0), {"x": jnp.array(3.0)}, None, ())
        >>> float(estimate.grad["x"])
        6.0
    """
    loss = outer_loss(problem, steps)

    def estimate(key: Key, hparams: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        flat, merge, gradient_tree = floats.ravel(hparams)

        def push(tangent: jax.Array) -> tuple[jax.Array, jax.Array, State]:
            return jax.jvp(lambda x: loss(key, merge(x), task), (flat,), (tangent,), has_aux=True)

        basis = jnp.eye(flat.size, dtype=flat.dtype)
        value, slopes, state = jax.vmap(push, out_axes=(None, 0, None))(basis)
        grad = gradient_tree(slopes)
        return Estimate(value, grad, {"state": state, **gradient_info(value, grad)}), memory

    return Estimator(no_memory, estimate)
