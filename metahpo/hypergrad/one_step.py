"""The one-step hypergradient: the derivative of the last update alone."""

from metahpo.base import Estimator, Problem
from metahpo.hypergrad.truncated import truncated


def one_step(problem: Problem, steps: int) -> Estimator:
    """Differentiates the last of ``steps`` inner updates and nothing before (Bolte et al. 2023).

    As cheap as a single update's gradient.  If one update contracts by a factor ``r`` around its
    fixed point, the relative error is about ``r`` once training has converged: right for
    super-linear solvers such as Newton's, rough for slow ones.

    Args:
        problem: the training process.
        steps: number of inner updates, at least 0.

    Returns:
        An Estimator without a memory, with the ``info`` of ``truncated``.

    Raises:
        ValueError: if ``steps`` is negative; when called, if no hyperparameter is a float.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> newton = mh.problems.function(lambda h: 0.0)._replace(  # the square root of c
        ...     init=lambda key, h, task: jnp.ones(()),
        ...     step=lambda key, h, task, x: (x + h["c"] / x) / 2,
        ...     loss=lambda key, h, task, x: x,
        ... )
        >>> estimator = mh.hypergrad.one_step(newton, steps=10)
        >>> h = {"c": jnp.array(4.0)}
        >>> estimate, _ = jax.jit(estimator.estimate)(jax.random.key(0), h, None, ())
        >>> float(estimate.grad["c"])  # 1 / (2 sqrt(4))
        0.25
    """
    return truncated(problem, steps, window=1)
