"""Single-loop stochastic bilevel optimisation: what SOBA and SABA share (Dagreou et al. 2022).

The inner variable z, the solution v of the linear system ``H v = -dF/dz`` and the hyperparameters x
move together, along directions that are sums over the inner loss's batches ``G = mean_i G_i``
(section 2)::

    D_z = dG/dz        D_v = d2G/dz2 v + dF/dz        D_x = d2G/dxdz v + dF/dx
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, floats
from metahpo.base import Estimate, HParams, Key, Params, Problem, State, Task
from metahpo.diagnostics import gradient_info
from metahpo.hypergrad.root import Equation, equation
from metahpo.inner import Training, begin, keys, scalar_loss

BatchLoss: TypeAlias = Callable[[HParams, Task, Params, chex.Array], chex.Array]


class Terms(NamedTuple):
    """What one batch, or a mean over batches, adds to the three directions.

    Attributes:
        z: ``f[n]``, ``dG_i/dz``.
        v: ``f[n]``, ``d2G_i/dz2 v``.
        x: ``f[h]``, ``d2G_i/dxdz v``, over the float hyperparameters.
    """

    z: chex.Array
    v: chex.Array
    x: chex.Array


class Rates(NamedTuple):
    """The step sizes of z and of v."""

    inner: float
    solver: float


class Memory(NamedTuple):
    """The training whose state holds the inner variable z, and the linear system's ``v`` f[n]."""

    training: Training
    v: chex.Array


class SingleLoop(NamedTuple):
    """The parts of an iteration.

    Attributes:
        begin: ``(key, hparams, task) -> Memory``: z from ``problem.init``, v zero.
        terms: ``(hparams, Memory, index) -> Terms``, of one batch.
        move: ``(key, hparams, Memory, Terms) -> (Estimate, Memory)``.
    """

    begin: Callable[[Key, HParams, Task], Memory]
    terms: Callable[[HParams, Memory, chex.Array], Terms]
    move: Callable[[Key, HParams, Memory, Terms], tuple[Estimate, Memory]]


def single_loop(
    problem: Problem,
    inner_loss: BatchLoss,
    batches: int,
    rates: Rates,
    params: Callable[[State], Params] | None,
) -> SingleLoop:
    """Checks the arguments and makes the parts.

    Raises:
        ValueError: unless there is a batch and both rates are positive.
    """
    batches = checks.whole("batches", batches)
    checks.positive(inner_rate=rates.inner, solver_rate=rates.solver)
    problem.lift(inner_loss)  # refuses what it cannot now

    def at(training: Training, index: chex.Numeric = 0) -> Equation:
        def loss(hparams: HParams, task: Task, params: Params) -> chex.Array:
            return inner_loss(hparams, task, params, jnp.asarray(index))

        return equation(problem, loss, params)(training)

    def begin_(key: Key, hparams: HParams, task: Task) -> Memory:
        training = begin(problem, key, hparams, task)
        return Memory(training, jnp.zeros_like(at(training).x))

    def terms(hparams: HParams, memory: Memory, index: chex.Array) -> Terms:
        eq = at(memory.training, index)
        flat, merge, _ = floats.ravel(hparams)
        # One reverse pass over the gradient gives both products: d2G is symmetric.
        by_z, pull = jax.vjp(lambda z, x: eq.f(z, merge(x)), eq.x, flat)
        return Terms(by_z, *pull(memory.v))

    def move(key: Key, hparams: HParams, memory: Memory, terms: Terms) -> tuple[Estimate, Memory]:
        training, v = memory
        eq = at(training)
        flat, merge, gradient_tree = floats.ravel(hparams)

        def outer(z: chex.Array, x: chex.Array) -> chex.Array:
            return scalar_loss(problem, keys(key).loss, merge(x), training.task, eq.put(z))

        loss, (by_z, by_x) = jax.value_and_grad(outer, argnums=(0, 1))(eq.x, flat)
        direction_v = terms.v + by_z
        grad = gradient_tree(terms.x + by_x)
        size = jnp.linalg.norm(by_z)
        info = {
            "state": training.state,
            "stationarity": jnp.linalg.norm(terms.z),
            "residual": jnp.linalg.norm(direction_v) / jnp.where(size == 0, 1, size),
            **gradient_info(loss, grad),
        }
        # All three directions are taken at the same point (algorithm 1).
        state = eq.put(eq.x - rates.inner * terms.z)
        training = training._replace(state=state, steps=training.steps + 1)
        return Estimate(loss, grad, info), Memory(training, v - rates.solver * direction_v)

    return SingleLoop(begin_, terms, move)


def draw(key: Key, batches: int) -> chex.Array:
    """The batch of one iteration, ``i32[]``."""
    return jax.random.randint(keys(key).steps, (), 0, batches)
