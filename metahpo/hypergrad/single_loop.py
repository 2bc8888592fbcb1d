"""Single-loop stochastic bilevel optimisation: what SOBA and SABA share (Dagreou et al. 2022).

The inner variable z, the solution v of the linear system ``H v = -dF/dz`` and the hyperparameters x
move together, along directions that are sums over the inner loss's batches ``G = mean_i G_i``
(section 2):

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
from metahpo.inner import keys, scalar_loss

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


class SingleLoop(NamedTuple):
    """The parts of an iteration.

    Attributes:
        start: ``(key, hparams, task) -> z f[n]``, the parameters of ``problem.init``.
        terms: ``(key, hparams, task, z, v, index) -> Terms``, of one batch.
        move: ``(key, hparams, task, z, v, Terms) -> (Estimate, z, v)``.
    """

    start: Callable[[Key, HParams, Task], chex.Array]
    terms: Callable[[Key, HParams, Task, chex.Array, chex.Array, chex.Array], Terms]
    move: Callable[..., tuple[Estimate, chex.Array, chex.Array]]


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

    def stand(key: Key, hparams: HParams, task: Task, state: State) -> State:
        return state

    untrained = problem._replace(step=stand)

    def at(key: Key, hparams: HParams, task: Task, index: chex.Numeric = 0) -> Equation:
        def loss(hparams: HParams, task: Task, params: Params) -> chex.Array:
            return inner_loss(hparams, task, params, jnp.asarray(index))

        return equation(untrained, 0, loss, params)(key, hparams, task)

    def start(key: Key, hparams: HParams, task: Task) -> chex.Array:
        return at(key, hparams, task).x

    def terms(
        key: Key, hparams: HParams, task: Task, z: chex.Array, v: chex.Array, index: chex.Array
    ) -> Terms:
        eq = at(key, hparams, task, index)
        flat, merge, _ = floats.ravel(hparams)
        # One reverse pass over the gradient gives both products: d2G is symmetric.
        by_z, pull = jax.vjp(lambda z, x: eq.f(z, merge(x)), z, flat)
        return Terms(by_z, *pull(v))

    def move(
        key: Key, hparams: HParams, task: Task, z: chex.Array, v: chex.Array, terms: Terms
    ) -> tuple[Estimate, chex.Array, chex.Array]:
        eq = at(key, hparams, task)
        flat, merge, gradient_tree = floats.ravel(hparams)

        def outer(z: chex.Array, x: chex.Array) -> chex.Array:
            return scalar_loss(problem, keys(key).loss, merge(x), task, eq.put(z))

        loss, (by_z, by_x) = jax.value_and_grad(outer, argnums=(0, 1))(z, flat)
        direction_v = terms.v + by_z
        grad = gradient_tree(terms.x + by_x)
        size = jnp.linalg.norm(by_z)
        info = {
            "state": eq.put(z),
            "stationarity": jnp.linalg.norm(terms.z),
            "residual": jnp.linalg.norm(direction_v) / jnp.where(size == 0, 1, size),
            **gradient_info(loss, grad),
        }
        # All three directions are taken at the same point (algorithm 1).
        z, v = z - rates.inner * terms.z, v - rates.solver * direction_v
        return Estimate(loss, grad, info), z, v

    return SingleLoop(start, terms, move)


def draw(key: Key, batches: int) -> chex.Array:
    """The batch of one iteration, ``i32[]``."""
    return jax.random.randint(keys(key).steps, (), 0, batches)
