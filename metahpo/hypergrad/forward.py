"""The exact hypergradient by forward mode: memory does not grow with the number of steps."""

import jax
import jax.numpy as jnp

from metahpo import checks, floats
from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, State, Task
from metahpo.diagnostics import gradient_info, no_memory, standard_error
from metahpo.hypergrad.tangents import Tangents, begin, push, value_and_slopes
from metahpo.hypergrad.unrolled import explosion_info
from metahpo.inner import check_problem, keys, repeat, scalar_loss


def forward(problem: Problem, steps: int, directions: int | None = None) -> Estimator:
    """Tangents of all ``h`` hyperparameters pushed along with training (Franceschi et al. 2017).

    Equal to ``reverse`` up to rounding.  Take it for few hyperparameters and long trainings: the
    cost is about ``1 + 1.8 h`` trainings and the memory ``1 + h`` states, whatever ``steps`` is.
    Training itself runs once; only the tangents are vmapped.

    With ``directions`` it pushes so many random ones instead: the mean of ``v_i (v_i . g)`` with
    ``v_i ~ N(0, I)`` is unbiased for the gradient ``g`` (Baydin et al. 2022, "Gradients without
    backpropagation").  The cost no longer grows with ``h``, but the variance does: it is
    ``(|g|^2 + g_j^2) / directions`` for coordinate ``j``.

    Args:
        problem: the training process.
        steps: number of inner updates, at least 0.
        directions: number of random directions, at least 1; every hyperparameter's by default.

    Returns:
        An Estimator without a memory.  ``info``: ``state`` (final training state), ``grad_norm``,
        ``finite``, ``zero_grad``; ``exploding`` bool[], whether the state's tangents grew more than
        a thousand times the number of steps, as which they may add up in any training, and
        ``explosion_exponent`` f[], the logarithm of that growth per step; with random directions
        ``standard_error`` (a pytree like the hyperparameters; infinite for a single direction).

    Raises:
        ValueError: if ``steps`` is negative or ``directions < 1``; when called, if no
            hyperparameter is a float.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> estimator = mh.hypergrad.forward(problem, steps=1)
        >>> h = {"x": jnp.array(3.0)}
        >>> estimate, _ = jax.jit(estimator.estimate)(jax.random.key(0), h, None, ())
        >>> float(estimate.grad["x"])
        6.0
    """
    if directions is not None:
        directions = checks.whole("directions", directions)
    check_problem(problem)
    steps = checks.whole("steps", steps, at_least=0)

    def estimate(key: Key, hparams: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        flat, merge, gradient_tree = floats.ravel(hparams)
        if directions is None:
            train_key, along = key, jnp.eye(flat.size, dtype=flat.dtype)
        else:
            noise_key, train_key = jax.random.split(key)
            along = jax.random.normal(noise_key, (directions, flat.size), flat.dtype)
        init_key, step_key, loss_key = keys(train_key)

        def step(key: Key, pushed: Tangents) -> Tangents:
            return push(
                lambda x, state: problem.step(key, merge(x), task, state), flat, along, pushed
            )

        def loss(x: jax.Array, state: State) -> jax.Array:
            return scalar_loss(problem, loss_key, merge(x), task, state)

        pushed = begin(lambda x: problem.init(init_key, merge(x), task), flat, along)
        pushed = repeat(step, steps)(step_key, pushed)
        value, slopes = value_and_slopes(loss, flat, along, pushed)
        info = {"state": pushed.state}
        if directions is None:
            grad = gradient_tree(slopes)
        else:
            samples = along * slopes[:, None]
            grad = gradient_tree(jnp.mean(samples, axis=0))
            info["standard_error"] = gradient_tree(standard_error(samples))
        info |= gradient_info(value, grad)
        growth = pushed.growth - jnp.log(max(steps, 1))
        return Estimate(value, grad, info | explosion_info(growth, steps, info["finite"])), memory

    return Estimator(no_memory, estimate, problem=problem, steps=steps)
