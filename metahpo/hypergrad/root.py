"""The equation that a trained state fulfils, ``F(x, hparams) = 0``, and its differentiable root."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from metahpo import floats
from metahpo.base import HParams, Key, Params, Problem, PyTree, State, Task
from metahpo.hypergrad.linear_solvers import LinearSolver, Solution
from metahpo.inner import Training, advance, begin, step_keys

InnerLoss: TypeAlias = Callable[[HParams, Task, Params], chex.Array]
Linear: TypeAlias = Callable[[jax.Array], jax.Array]


class Equation(NamedTuple):
    """``F(x, hparams) = 0`` at the end of a training.

    Attributes:
        x: ``f[n]``, the floats of the state that the equation determines, as training left them;
            constants for differentiation.
        f: ``(x, hparams) -> f[n]``.
        put: ``(x) -> state``, the trained state with ``x`` in place.
        symmetric: whether the Jacobian ``A = dF/dx`` is symmetric (static).
    """

    x: jax.Array
    f: Callable[[jax.Array, HParams], jax.Array]
    put: Callable[[jax.Array], State]
    symmetric: bool

    def matvec(self, x: jax.Array, hparams: HParams) -> Linear:
        """``v -> A v``."""
        return jax.linearize(lambda x: self.f(x, hparams), x)[1]

    def vecmat(self, x: jax.Array, hparams: HParams) -> Linear:
        """``v -> A' v``; for a symmetric A forward over reverse, the cheaper order."""
        if self.symmetric:
            return self.matvec(x, hparams)
        pull = jax.vjp(lambda x: self.f(x, hparams), x)[1]
        return lambda v: pull(v)[0]


def equation(
    problem: Problem,
    inner_loss: InnerLoss | None,
    params: Callable[[State], Params] | None,
) -> Callable[[Training], Equation]:
    """Which equation a training that has ended should fulfil.

    Without an inner loss ``F = state - step(state)``, over all float leaves of the state, at the
    key of the step that would come next; the other leaves stay as training left them.  With one,
    ``F = d inner_loss / d params``, over the floats of the parameters.  If the problem is made of
    another one (``links.unconstrained``), the inner loss is the other's.
    """
    if inner_loss is None and params is not None:
        raise ValueError("params says where an inner_loss finds its parameters, but there is none")
    lifted = None if inner_loss is None else problem.lift(inner_loss)

    def at(training: Training) -> Equation:
        task = training.task
        if lifted is None:
            x, put, take = _parts(training.state, lambda state: state)
            step_key = step_keys(training.keys.steps, 1, training.steps)[0]

            def f(x: jax.Array, hparams: HParams) -> jax.Array:
                return x - take(problem.step(step_key, hparams, task, put(x)))

            return Equation(x, f, put, symmetric=False)

        select = params or (lambda state: getattr(state, "params", state))
        x, put, _ = _parts(training.state, select)

        def objective(x: jax.Array, hparams: HParams) -> jax.Array:
            return lifted(hparams, task, select(put(x)))

        return Equation(x, jax.grad(objective), put, symmetric=True)

    return at


def trained(problem: Problem, steps: int) -> Callable[[Key, HParams, Task], Training]:
    """``(key, hparams, task) -> training``, a whole one that is not differentiated."""
    train = advance(problem, steps)

    def run(key: Key, hparams: HParams, task: Task) -> Training:
        constants = jax.lax.stop_gradient((hparams, task))
        training = train(constants[0], begin(problem, key, *constants))
        return training._replace(task=task)

    return run


def solve_by(
    solver: LinearSolver, key: Key, symmetric: bool
) -> Callable[[Linear, jax.Array], tuple[jax.Array, Solution]]:
    """``(matvec, b) -> (x, Solution)``, differentiable to any order by its own equation."""

    def solve(matvec: Linear, b: jax.Array) -> tuple[jax.Array, Solution]:
        solution = solver(key, matvec, b)
        return solution.x, solution

    def run(matvec: Linear, b: jax.Array) -> tuple[jax.Array, Solution]:
        return jax.lax.custom_linear_solve(
            matvec, b, solve, transpose_solve=solve, symmetric=symmetric, has_aux=True
        )

    return run


def root(equation: Equation, hparams: HParams, solver: LinearSolver, key: Key) -> jax.Array:
    """``x`` f[n] as a differentiable function of the hyperparameters.

    Its derivative ``-A^-1 dF/dh`` supposes ``F(x) = 0``, and a derivative of that supposes it
    once more: what training left over is an error of every order.
    """
    solve = solve_by(solver, key, equation.symmetric)
    return jax.lax.custom_root(
        lambda x: equation.f(x, hparams),
        equation.x,
        solve=lambda f, x: x,
        tangent_solve=lambda linear, b: solve(linear, b)[0],
    )


def solver_key(key: Key) -> Key:
    """The key of what is random in a linear solver; none of those that training derives."""
    return jax.random.fold_in(key, 2**31)


def _parts(
    state: State, select: Callable[[State], PyTree]
) -> tuple[jax.Array, Callable[[jax.Array], State], Callable[[State], jax.Array]]:
    """The selected floats of a state as a vector, and how to put new ones in and take them out.

    ``select`` is applied to the state's structure with opaque leaves, which tells what it picks.
    """
    leaves, treedef = jax.tree.flatten(state)
    slots = [object() for _ in leaves]
    index = {id(slot): i for i, slot in enumerate(slots)}
    picked = jax.tree.leaves(select(jax.tree.unflatten(treedef, slots)))
    if any(id(slot) not in index for slot in picked):
        raise ValueError(f"params must only pick leaves of the state, got {picked}")
    where = sorted({index[id(slot)] for slot in picked})
    where = [i for i in where if floats.is_float(leaves[i])]
    if not where or not sum(leaves[i].size for i in where):
        raise ValueError(f"the trained state needs a float to differentiate, got {treedef}")
    x, unravel = ravel_pytree([leaves[i] for i in where])

    def put(x: jax.Array) -> State:
        new = list(leaves)
        for i, leaf in zip(where, unravel(x), strict=True):
            new[i] = leaf
        return jax.tree.unflatten(treedef, new)

    def take(state: State) -> jax.Array:
        leaves = jax.tree.leaves(state)
        return ravel_pytree([leaves[i] for i in where])[0]

    return jax.lax.convert_element_type(x, jnp.result_type(x)), put, take
