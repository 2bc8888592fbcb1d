"""The mean loss and gradient over the tasks of a round of meta-training."""

from collections.abc import Callable
from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree
from metahpo.hypergrad import floats
from metahpo.run.sharding import batched, summed

Gradient: TypeAlias = tuple[chex.Array, floats.Floats]
Mean: TypeAlias = Callable[[HParams, tuple[Key, Key], PyTree], tuple[Gradient, PyTree]]


def task_mean(
    problem: Problem, estimator: Estimator, mesh: Mesh | None, chunks: int, drawn: bool = False
) -> Mean:
    """How a round averages over its tasks.

    Args:
        problem: its ``sample`` draws the tasks.
        estimator: of one task's gradient.
        mesh: devices to spread the tasks over.
        chunks: the tasks are computed in so many parts, one after another.
        drawn: whether the mean gets tasks; else it gets their keys, and draws each where it is
            used.

    Returns:
        ``(hparams, (tasks or their keys, estimate keys), memory) -> ((loss, gradients), memory)``,
        all but ``hparams`` with a leading axis ``[tasks]``; the gradients are those of the float
        leaves.
    """
    if drawn:
        problem = problem._replace(sample=lambda task: task)
    objective = estimator.objective
    mean = _of_estimates(problem, estimator, mesh)
    if objective is not None:
        mean = _of_objective(problem, objective, mesh)
    return mean if chunks == 1 else _in_chunks(mean, chunks)


def _of_objective(
    problem: Problem, objective: Callable[[Key, HParams, PyTree], chex.Array], mesh: Mesh | None
) -> Mean:
    """The gradient of the mean, without one gradient for every task.

    What the tasks share, as the parameters of a first inner step, is differentiated once for all
    of them: the sum over the tasks becomes part of the matrix products.
    """

    def one(hparams: HParams, task_key: Key, key: Key) -> chex.Array:
        return objective(key, hparams, problem.sample(task_key))

    def total(hparams: HParams, weights: chex.Array, *keys: Key) -> Gradient:
        leaves, merge = floats.split(hparams)

        def loss(leaves: floats.Floats) -> chex.Array:
            losses = jax.vmap(one, (None, 0, 0))(merge(leaves), *keys)
            return jnp.sum(losses * weights.astype(losses.dtype))

        return jax.value_and_grad(loss)(leaves)

    def mean(hparams: HParams, keys: tuple[Key, Key], memory: PyTree) -> tuple[Gradient, PyTree]:
        count = keys[1].shape[0]
        return summed(total, mesh)(hparams, jnp.full(count, 1 / count), *keys), memory

    return mean


def _of_estimates(problem: Problem, estimator: Estimator, mesh: Mesh | None) -> Mean:
    """The means of losses and gradients, of which there is one for every task."""

    def one(hparams: HParams, keys: tuple[Key, Key], memory: PyTree) -> tuple[Estimate, PyTree]:
        task_key, key = keys
        estimate, memory = estimator.estimate(key, hparams, problem.sample(task_key), memory)
        return estimate._replace(info={}), memory

    def mean(hparams: HParams, keys: tuple[Key, Key], memory: PyTree) -> tuple[Gradient, PyTree]:
        estimate, memory = batched(one, mesh)(hparams, keys, memory)
        grads = [grad.mean(axis=0) for grad in floats.split(estimate.grad)[0]]
        return (estimate.loss.mean(), grads), memory

    return mean


def _in_chunks(mean: Mean, chunks: int) -> Mean:
    def over_chunks(
        hparams: HParams, keys: tuple[Key, Key], memory: PyTree
    ) -> tuple[Gradient, PyTree]:
        cut = jax.tree.map(lambda x: x.reshape(chunks, -1, *x.shape[1:]), (keys, memory))
        zeros = jax.tree.map(
            lambda shape: jnp.zeros(shape.shape, shape.dtype),
            jax.eval_shape(mean, hparams, *jax.tree.map(lambda x: x[0], cut))[0],
        )

        def body(total: PyTree, one: PyTree) -> tuple[PyTree, PyTree]:
            part, memory = mean(hparams, *one)
            return jax.tree.map(jnp.add, total, part), memory

        total, memory = jax.lax.scan(body, zeros, cut)
        memory = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), memory)
        return jax.tree.map(lambda x: x / chunks, total), memory

    return over_chunks
