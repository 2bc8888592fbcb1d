"""The exact hypergradient by reverse mode through the unrolled training."""

import chex

from metahpo import checks
from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, Task
from metahpo.diagnostics import no_memory
from metahpo.hypergrad import bytes_needed
from metahpo.hypergrad.unrolled import estimate_unrolled
from metahpo.inner import advance, begin, outer_loss
from metahpo.recomputation import Checkpoint

MEMORY_BUDGET = 2**30
"""Bytes that ``checkpoint="auto"`` may use when no ``memory_budget`` is given."""


def reverse(
    problem: Problem,
    steps: int,
    checkpoint: Checkpoint = "auto",
    memory_budget: int | None = None,
) -> Estimator:
    """Backpropagation through ``steps`` inner updates (Maclaurin et al. 2015; Franceschi 2017).

    Args:
        problem: the training process.
        steps: number of inner updates, at least 0.
        checkpoint: ``"none" | "step" | "sqrt" | "unrolled"`` or a number of stored states, as in
            ``inner.unroll``; ``"auto"`` is the fastest that fits into ``memory_budget``,
            which on a CPU is never ``"none"``.
        memory_budget: bytes of temporary memory for one estimate, for ``"auto"`` alone; 1 GiB by
            default.  Under ``vmap`` every member has the budget.

    Returns:
        An Estimator without a memory.  Cost: about 3, 4 and 5 trainings for ``"none"``,
        ``"step"`` and ``"sqrt"``, and one more for every further level of nested loops.  ``info``:
        ``state`` (final training state); ``grad_norm``; ``finite``; ``zero_grad``;
        ``explosion_exponent`` f[], the logarithm per step of how much the gradient with respect to
        the state grew on its way back (infinite where the result is not finite); ``exploding``
        bool[], whether it grew more than a thousandfold in all.  Such a gradient is exact and yet
        of little use for descent; ``es``, ``pes`` and ``nres`` follow the smoothed loss instead.

    Raises:
        ValueError: if ``steps`` is negative, ``checkpoint`` unknown or too few states, or
            ``memory_budget`` not positive; when called, if no hyperparameter is a float or
            ``memory_budget`` too small for any plan.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> estimator = mh.hypergrad.reverse(problem, steps=1)
        >>> h = {"x": jnp.array(3.0)}
        >>> estimate, _ = jax.jit(estimator.estimate)(jax.random.key(0), h, None, ())
        >>> float(estimate.grad["x"])
        6.0
    """
    if memory_budget is not None:
        checks.positive(memory_budget=memory_budget)
    if memory_budget is not None and checkpoint != "auto":
        raise ValueError(f"memory_budget needs checkpoint='auto', got checkpoint={checkpoint!r}")
    # Refuses wrong steps and checkpoints now rather than inside the trace.
    advance(problem, steps, "none" if checkpoint == "auto" else checkpoint)

    def mode(key: Key, hparams: HParams, task: Task) -> Checkpoint:
        if checkpoint != "auto":
            return checkpoint
        budget = MEMORY_BUDGET if memory_budget is None else memory_budget
        return bytes_needed.fastest(problem, steps, budget, key, hparams, task)

    def objective(key: Key, hparams: HParams, task: Task) -> chex.Array:
        return outer_loss(problem, steps, mode(key, hparams, task))(key, hparams, task)[0]

    def estimate(
        key: Key, hparams: HParams, task: Task, nothing: PyTree
    ) -> tuple[Estimate, PyTree]:
        result, _ = estimate_unrolled(
            problem,
            hparams,
            lambda h: begin(problem, key, h, task),
            steps,
            mode(key, hparams, task),
        )
        return result, nothing

    return Estimator(no_memory, estimate, objective, problem, steps)
