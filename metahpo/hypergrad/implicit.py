"""Implicit hypergradients: the derivative of where training ends, not of how it gets there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metahpo import checks, floats
from metahpo.base import Estimate, Estimator, HParams, Key, Params, Problem, PyTree, State, Task
from metahpo.diagnostics import gradient_info, no_memory
from metahpo.hypergrad import linear_solvers
from metahpo.hypergrad.linear_solvers import LinearSolver, Solution
from metahpo.hypergrad.root import (
    Equation,
    InnerLoss,
    equation,
    root,
    solve_by,
    solver_key,
    trained,
)
from metahpo.inner import check_problem, judge

SLACK = 10.0
"""The true residual may lie this much above ``tolerance``, at which recurrences stop."""


def implicit(
    problem: Problem,
    steps: int,
    solver: str = "auto",
    *,
    inner_loss: InnerLoss | None = None,
    params: Callable[[State], Params] | None = None,
    stationarity_tolerance: float | None = None,
    **options: Any,
) -> Estimator:
    """The implicit function theorem where ``steps`` inner updates end (Bengio 2000).

    Training is not differentiated.  Its result counts as the root ``x`` of ``F(x, hparams) = 0``,
    and with ``A = dF/dx`` and the outer loss L, ``grad = dL/dh - (dF/dh)' u`` where
    ``A' u = dL/dx`` (Lorraine et al. 2020, theorem 1).  Memory and time of the backward pass do not
    grow with ``steps``; A is never formed, but by ``"dense"``.  There are two equations:

    * without ``inner_loss``, the fixed point of the step: ``F = state - step(key, h, task, state)``
      over the float leaves of the state, at the key of the update that would come next.  A is
      symmetric for plain gradient descent alone.  Steps on minibatches have no fixed point, and
      those of the Adam family a singular one: give such a training its ``inner_loss``.
    * with ``inner_loss``, its stationarity: ``F = d inner_loss / d params``, and A its Hessian.
      The rest of the state counts as a constant.

    What does not move the root has no gradient here: initial parameters, and whatever only decides
    how fast training gets there (rates, momentum, schedules, batch sizes).  ``info["sees"]`` says
    so; differentiate the path instead, by ``reverse``, ``forward`` or ``truncated``.

    Args:
        problem: the training process; ``steps`` of it must converge.
        steps: number of inner updates, at least 0.
        solver: ``"cg"`` (A symmetric positive definite), ``"nystrom"`` (A symmetric, of low rank),
            ``"neumann"`` (the step contracts), ``"gmres"``, ``"bicgstab"``, ``"normal_cg"`` (any
            A), ``"dense"`` (any A, small), see ``hypergrad.linear_solvers``; ``"auto"`` is
            ``"cg"`` with an ``inner_loss`` and ``"gmres"`` without.
        inner_loss: ``(hparams, task, params) -> f[]``, what training minimises; of
            ``links.unconstrained`` and other problems made of one, what that one's training does.
        params: ``(state) -> params``, which part of the state ``inner_loss`` sees; by default
            ``state.params`` where there is such an attribute, else the state.
        stationarity_tolerance: the largest ``stationarity`` that counts as converged, by default
            the root of the machine epsilon (1.5e-8 in double, 3.5e-4 in single precision).
        options: ``tolerance``, ``damping`` and the solver's own, see ``linear_solvers.make``.
            ``neumann`` has ``scale=1`` for a fixed point: its terms are those of an unrolled step.

    Returns:
        An Estimator without a memory.  ``info``: ``state`` (trained), ``grad_norm``, ``finite``,
        ``zero_grad``,

        * ``stationarity`` f[]: ``|A^-1 F| / |x|``, the length of one more Newton step relative to
          x; about the relative distance to the root, whatever the scale and conditioning.
        * ``residual`` f[]: ``|A' u - dL/dx| / |dL/dx|``, computed anew after the solve.
        * ``iterations`` i32[]: of that solve.
        * ``converged`` bool[]: ``stationarity <= stationarity_tolerance``, and the residuals of
          both linear solves are at most ten times ``tolerance``.  Without it do not trust the
          gradient.
        * ``sees``: a pytree of bool[] like the hyperparameters, whether this leaf moves the root
          or enters the outer loss directly.  False for a leaf whose effect on F, along a random
          direction, is at the root (after that Newton step) at most 1 % of what it is a tenth of
          ``|x|`` away from it: exactly zero if F lacks it, while a rate's vanishes with F.  Means
          something only once ``converged``.

        The Newton step takes a second linear solve, which a compiled program leaves out where
        none of ``stationarity``, ``converged`` and ``sees`` is used.

    Raises:
        ValueError: if ``steps`` is negative, the solver or an option unknown or out of range, or
            ``params`` given without an ``inner_loss``; when called, if no hyperparameter or no
            part of the state is a float, or ``params`` computes instead of picking.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> shrink = mh.problems.function(lambda h: 0.0)._replace(  # w = 2 / (1 + h)
        ...     init=lambda key, h, task: jnp.zeros(()),
        ...     step=lambda key, h, task, w: w - 0.5 * ((w - 2.0) + h["l2"] * w),
        ...     loss=lambda key, h, task, w: w,
        ... )
        >>> estimator = mh.hypergrad.implicit(shrink, steps=100)
        >>> h = {"l2": jnp.array(1.0)}
        >>> estimate, _ = jax.jit(estimator.estimate)(jax.random.key(0), h, None, ())
        >>> float(estimate.grad["l2"]), bool(estimate.info["converged"])  # -2 / (1 + h)^2
        (-0.5, True)
    """
    check_problem(problem)
    if stationarity_tolerance is not None:
        checks.positive(stationarity_tolerance=stationarity_tolerance)
    linear = _make_solver(solver, inner_loss, options)
    train, equation_at = trained(problem, steps), equation(problem, inner_loss, params)
    tolerance = options.get("tolerance")

    def estimate(key: Key, hparams: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        leaves, merge = floats.split(hparams)
        training = train(key, hparams, task)
        eq, extra_key = equation_at(training), solver_key(key)
        x = root(eq, hparams, linear, extra_key)

        def outer(x: jax.Array, leaves: floats.Floats) -> jax.Array:
            return judge(problem, merge(leaves), training._replace(state=eq.put(x)))

        value, (by_x, direct) = jax.value_and_grad(outer, argnums=(0, 1))(x, leaves)
        u, solution = solve_by(linear, extra_key, eq.symmetric)(eq.vecmat(x, hparams), by_x)
        pull = jax.vjp(lambda leaves: eq.f(x, merge(leaves)), leaves)[1]
        grad = floats.gradient_tree(
            hparams, [a - b for a, b in zip(direct, pull(u)[0], strict=True)]
        )
        constants = jax.lax.stop_gradient(hparams)
        newton = linear(extra_key, eq.matvec(eq.x, constants), eq.f(eq.x, constants))
        info = {
            "state": eq.put(x),
            **_convergence(eq.x, newton, solution, tolerance, stationarity_tolerance),
            "sees": _sees(eq, eq.x - newton.x, constants, direct, jax.random.fold_in(extra_key, 1)),
            **gradient_info(value, grad),
        }
        return Estimate(value, grad, info), memory

    return Estimator(no_memory, estimate, problem=problem, steps=steps)


def implicit_loss(
    problem: Problem,
    steps: int,
    solver: str = "auto",
    *,
    inner_loss: InnerLoss | None = None,
    params: Callable[[State], Params] | None = None,
    **options: Any,
) -> Callable[[Key, HParams, Task], tuple[jax.Array, State]]:
    """The outer loss after training, differentiable to any order by the implicit function theorem.

    Compose it as any function: ``jvp``, ``grad``, ``hessian``, ``vmap``.  Built on
    ``jax.lax.custom_root``, whose derivatives suppose a root: where training has not converged
    every order is wrong, the second more than the first, and nothing here can say so.  Look at the
    ``info`` of ``implicit``, whose gradient is the same, at the hyperparameters that matter.

    Args:
        problem: the training process.
        steps: number of inner updates, at least 0.
        solver: as in ``implicit``.
        inner_loss: as in ``implicit``.
        params: as in ``implicit``.
        options: as in ``implicit``; with ``damping`` second derivatives are biased, too.

    Returns:
        ``(key, hparams, task) -> (loss f[], state)``, as ``inner.outer_loss``.

    Raises:
        ValueError: as ``implicit``.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> square_root = mh.problems.function(lambda h: 0.0)._replace(
        ...     init=lambda key, c, task: jnp.ones(()),
        ...     step=lambda key, c, task, x: (x + c / x) / 2,
        ...     loss=lambda key, c, task, x: x,
        ... )
        >>> loss = mh.hypergrad.implicit_loss(square_root, steps=10)
        >>> slope = jax.grad(lambda c: loss(jax.random.key(0), c, None)[0])
        >>> [float(d) for d in jax.jit(jax.value_and_grad(slope))(4.0)]
        [0.25, -0.03125]
    """
    linear = _make_solver(solver, inner_loss, options)
    train, equation_at = trained(problem, steps), equation(problem, inner_loss, params)

    def run(key: Key, hparams: HParams, task: Task) -> tuple[jax.Array, State]:
        training = train(key, hparams, task)
        eq = equation_at(training)
        state = eq.put(root(eq, hparams, linear, solver_key(key)))
        return judge(problem, hparams, training._replace(state=state)), state

    return run


def _make_solver(
    solver: str, inner_loss: InnerLoss | None, options: dict[str, Any]
) -> LinearSolver:
    if solver == "auto":
        solver = "gmres" if inner_loss is None else "cg"
    if solver == "neumann" and inner_loss is None:
        options = {"scale": 1.0, **options}
    return linear_solvers.make(solver, **options)


def _convergence(
    x: jax.Array,
    newton: Solution,
    adjoint: Solution,
    tolerance: float | None,
    stationarity_tolerance: float | None,
) -> dict[str, jax.Array]:
    length, size = jnp.linalg.norm(newton.x), jnp.linalg.norm(x)
    # At a root that is 0 no distance is small beside x, except 0.
    stationarity = jnp.where(length == 0, 0, length / size)
    if stationarity_tolerance is None:
        stationarity_tolerance = float(jnp.finfo(x.dtype).eps) ** 0.5
    if tolerance is None:
        tolerance = linear_solvers.default_tolerance(x.dtype)
    return {
        "stationarity": stationarity,
        "residual": adjoint.residual,
        "iterations": adjoint.iterations,
        "converged": (stationarity <= stationarity_tolerance)
        & (jnp.maximum(adjoint.residual, newton.residual) <= SLACK * tolerance),
    }


def _sees(eq: Equation, x: jax.Array, hparams: HParams, direct: floats.Floats, key: Key) -> HParams:
    """Whether a hyperparameter's effect on F is still there at the root, or on the loss directly.

    Compared with the effect beside the root ``x``, so that neither the hyperparameter's scale nor
    that of F nor the rounding of a state at rest matters.
    """
    leaves, merge = floats.split(hparams)
    beside_key, direction_key = jax.random.split(key)
    away = 0.1 * jnp.linalg.norm(x) / jnp.sqrt(x.size).astype(x.dtype)
    # Upwards, so that what must not be negative (averages of squares) stays so.
    beside = x + away * jnp.abs(jax.random.normal(beside_key, x.shape, x.dtype))

    directions = [
        jax.random.normal(jax.random.fold_in(direction_key, i), leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]

    def effects(x: jax.Array) -> jax.Array:
        push = jax.linearize(lambda leaves: eq.f(x, merge(leaves)), leaves)[1]

        def effect(i: jax.Array) -> jax.Array:
            return jnp.linalg.norm(
                push([jnp.where(i == j, d, 0) for j, d in enumerate(directions)])
            )

        return jax.lax.map(effect, jnp.arange(len(leaves)))

    # One after the other: neither the program nor its memory grows with the number of leaves.
    here, there = jax.lax.map(effects, jnp.stack([x, beside]))
    moves = ~(here <= 0.01 * there)
    found = [moves[i] | jnp.any(d != 0) for i, d in enumerate(direct)]
    return jax.tree.map(lambda leaf: jnp.any(leaf != 0), floats.gradient_tree(hparams, found))
