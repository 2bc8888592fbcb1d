"""SABA: SOBA with variance reduction of all three directions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metahpo.base import Estimate, Estimator, HParams, Key, Params, Problem, State, Task
from metahpo.hypergrad.single_loop import (
    BatchLoss,
    Memory,
    Rates,
    Terms,
    draw,
    single_loop,
)


class SabaMemory(NamedTuple):
    """The iteration's memory, and each batch's last terms.

    Attributes:
        loop: as in ``soba``.
        table: ``Terms`` with a leading axis ``[batches]``.
        mean: ``Terms``, the mean of the table.
    """

    loop: Memory
    table: Terms
    mean: Terms


def saba(
    problem: Problem,
    inner_loss: BatchLoss,
    batches: int,
    inner_rate: float,
    solver_rate: float | None = None,
    *,
    params: Callable[[State], Params] | None = None,
) -> Estimator:
    """``soba`` with SAGA's corrections (Dagreou et al. 2022, section 2.2).

    The terms of every batch are remembered from when it was last drawn, and a sum of terms is
    estimated by ``new_i - table_i + mean(table)``.  The variance vanishes where z, v and the
    hyperparameters come to rest, so that constant rates converge as full batches do, at the price
    of a table of ``batches (2 n + h)`` numbers for n parameters and h hyperparameters, and of one
    pass over all batches in ``init``.  The outer loss is evaluated as a whole in every iteration;
    noise that ``problem.loss`` takes from its key is not reduced.

    Args:
        problem: as in ``soba``.
        inner_loss: as in ``soba``.
        batches: number of batches, at least 1.
        inner_rate: step size of z, positive; SAGA's theory wants at most ``1 / (3 L)`` for the
            largest curvature ``L`` of a batch.
        solver_rate: step size of v, positive; ``inner_rate`` by default.
        params: as in ``soba``.

    Returns:
        An Estimator whose memory is a ``SabaMemory``.  ``info`` as in ``soba``, with the corrected
        inner gradient and residual.

    Raises:
        ValueError: if ``batches < 1`` or a rate is not positive; when called, if no hyperparameter
            or no parameter is a float.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.problems.function(lambda h: 0.0)._replace(  # z = h, loss (z - 1)^2 / 2
        ...     init=lambda key, h, task: jnp.zeros(()),
        ...     loss=lambda key, h, task, z: (z - 1.0) ** 2 / 2,
        ... )
        >>> inner = lambda h, task, z, index: (z - h - jnp.array([-5.0, 5.0])[index]) ** 2 / 2
        >>> estimator = mh.hypergrad.saba(problem, inner, batches=2, inner_rate=0.3)
        >>> estimate, h = jax.jit(estimator.estimate), jnp.array(3.0)
        >>> memory = jax.jit(estimator.init)(jax.random.key(0), h, None)
        >>> for i in range(1, 151):
        ...     found, memory = estimate(jax.random.key(i), h, None, memory)
        >>> round(float(found.grad), 4)  # h - 1, in spite of the batches' noise
        2.0
    """
    rates = Rates(inner_rate, inner_rate if solver_rate is None else solver_rate)
    loop = single_loop(problem, inner_loss, batches, rates, params)

    def init(key: Key, hparams: HParams, task: Task) -> SabaMemory:
        memory = loop.begin(key, hparams, task)
        table = jax.lax.map(lambda i: loop.terms(hparams, memory, i), jnp.arange(batches))
        return SabaMemory(memory, table, jax.tree.map(lambda t: t.mean(axis=0), table))

    def estimate(
        key: Key, hparams: HParams, task: Task, memory: SabaMemory
    ) -> tuple[Estimate, SabaMemory]:
        del task  # z and v stay with the one that they began with
        inner, table, mean = memory
        index = draw(key, batches)
        new = loop.terms(hparams, inner, index)
        change = jax.tree.map(lambda new, table: new - table[index], new, table)
        terms = jax.tree.map(jnp.add, change, mean)
        table = jax.tree.map(lambda table, new: table.at[index].set(new), table, new)
        mean = jax.tree.map(lambda mean, change: mean + change / batches, mean, change)
        result, inner = loop.move(key, hparams, inner, terms)
        return result, SabaMemory(inner, table, mean)

    return Estimator(init, estimate, problem=problem)
