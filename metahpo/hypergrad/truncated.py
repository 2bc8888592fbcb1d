"""The truncated hypergradient: reverse mode through the last steps of a training alone."""

import jax

from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, State, Task
from metahpo.diagnostics import gradient_info, no_memory
from metahpo.hypergrad import floats
from metahpo.hypergrad.reverse import reverse
from metahpo.inner import advance, keys, scalar_loss


def truncated(problem: Problem, steps: int, window: int, checkpoint: str = "step") -> Estimator:
    """Backpropagation through the last ``window`` of ``steps`` inner updates (Shaban et al. 2019).

    The steps before are run forward only, and the state after them counts as a constant.  Memory
    and backward time are those of ``window`` steps.  The estimate is *biased*: it misses what a
    hyperparameter did before the window, and where that is not forgotten within the window it can
    be far off and even point the wrong way (Vicol et al. 2021, section 5.1); the initial state has
    no gradient at all.  Where training contracts, the bias decays exponentially with the window.

    Args:
        problem: the training process.
        steps: number of inner updates, at least 0.
        window: how many of the last updates to differentiate, at least 1; from ``steps`` on this
            is ``reverse``.
        checkpoint: ``"none" | "step" | "sqrt"``, within the window.

    Returns:
        An Estimator without a memory.  ``info``: ``state`` (final training state), ``grad_norm``,
        ``finite``.

    Raises:
        ValueError: if ``steps`` is negative, ``window < 1`` or ``checkpoint`` unknown; when
            called, if no hyperparameter is a float.

    Example:
        >>> import jax, jax.numpy as jnp, optax, metahpo as mh
        >>> family = mh.problems.quadratics(kappa=10.0)
        >>> problem = mh.problems.training(family, lambda h: optax.sgd(h["lr"]))
        >>> estimator = mh.hypergrad.truncated(problem, steps=50, window=5)
        >>> task = problem.sample(jax.random.key(0))
        >>> estimate, _ = estimator.estimate(jax.random.key(1), {"lr": jnp.array(0.1)}, task, ())
        >>> bool(estimate.info["finite"])
        True
    """
    if window != int(window) or window < 1:
        raise ValueError(f"window must be a whole number of at least 1, got {window}")
    if window >= steps:
        return reverse(problem, steps, checkpoint)
    before, last = advance(problem, steps - window), advance(problem, window, checkpoint)

    def estimate(key: Key, hparams: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        init_key, step_key, loss_key = keys(key)
        start = before(step_key, hparams, task, problem.init(init_key, hparams, task), 0)

        def loss(hparams: HParams) -> tuple[jax.Array, State]:
            state = last(step_key, hparams, task, start, steps - window)
            return scalar_loss(problem, loss_key, hparams, task, state), state

        (value, state), grad = floats.value_and_grad(loss)(hparams)
        return Estimate(value, grad, {"state": state, **gradient_info(value, grad)}), memory

    return Estimator(no_memory, estimate)
