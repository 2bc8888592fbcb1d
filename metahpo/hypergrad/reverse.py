"""The exact hypergradient by reverse mode through the unrolled training."""

import jax

from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, Task
from metahpo.diagnostics import gradient_info, no_memory
from metahpo.hypergrad import floats
from metahpo.checkpointing import MODES
from metahpo.inner import outer_loss, unroll

STORED_STATES_BYTES = 2**30
"""``checkpoint="auto"`` stores every state while all of them fit into this many bytes."""


def reverse(problem: Problem, steps: int, checkpoint: str = "auto") -> Estimator:
    """Backpropagation through ``steps`` inner updates (Maclaurin et al. 2015; Franceschi 2017).

    Args:
        problem: the training process.
        steps: number of inner updates, at least 0.
        checkpoint: ``"none" | "step" | "sqrt"`` as in ``inner.unroll``; ``"auto"`` is ``"step"``
            while all states fit into 1 GiB and ``"sqrt"`` above.

    Returns:
        An Estimator without a memory.  Cost: about 3, 4 and 5 trainings for ``"none"``,
        ``"step"`` and ``"sqrt"``.  ``info``: ``state`` (final training state), ``grad_norm``,
        ``finite``.

    Raises:
        ValueError: if ``steps`` is negative or ``checkpoint`` unknown; when called, if no
            hyperparameter is a float.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> estimator = mh.hypergrad.reverse(problem, steps=1)
        >>> estimate, _ = estimator.estimate(jax.random.key(0), {"x": jnp.array(3.0)}, None, ())
        >>> float(estimate.grad["x"])
        6.0
    """
    if checkpoint not in (*MODES, "auto"):
        raise ValueError(f"checkpoint must be one of {(*MODES, 'auto')}, got {checkpoint!r}")
    unroll(problem, steps)  # refuses wrong steps now rather than inside the trace

    def estimate(key: Key, hparams: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        mode = _fitting_mode(problem, steps, key, hparams, task)
        loss = outer_loss(problem, steps, mode if checkpoint == "auto" else checkpoint)
        (value, state), grad = floats.value_and_grad(lambda h: loss(key, h, task))(hparams)
        return Estimate(value, grad, {"state": state, **gradient_info(value, grad)}), memory

    return Estimator(no_memory, estimate)


def _fitting_mode(problem: Problem, steps: int, key: Key, hparams: HParams, task: Task) -> str:
    state = jax.eval_shape(problem.init, key, hparams, task)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return "step" if size * steps <= STORED_STATES_BYTES else "sqrt"
