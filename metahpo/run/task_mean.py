"""The mean loss and gradient over the tasks of a round of meta-training."""

from collections.abc import Callable
from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from metahpo import floats
from metahpo.base import Estimate, Estimator, HParams, Key, PyTree
from metahpo.run.sharding import batched, summed

Sample: TypeAlias = Callable[[PyTree], PyTree]
Gradient: TypeAlias = tuple[chex.Array, floats.Floats]
Mean: TypeAlias = Callable[[HParams, tuple[PyTree, Key], PyTree], tuple[Gradient, PyTree]]


def task_mean(sample: Sample, estimator: Estimator, mesh: Mesh | None, chunks: int) -> Mean:
    """How a round averages over its tasks.

    Args:
        sample: ``(source) -> task``: draws a task from its key, where it is used; the identity for
            tasks that are there already.
        estimator: of one task's gradient.
        mesh: devices to spread the tasks over.
        chunks: the tasks are computed in so many parts, one after another.

    Returns:
        ``(hparams, (sources, estimate keys), memory) -> ((loss, gradients), memory)``, all but
        ``hparams`` with a leading axis ``[tasks]``; the gradients are those of the float leaves.
    """
    objective = estimator.objective
    mean = _of_estimates(sample, estimator, mesh)
    if objective is not None:
        mean = _of_objective(sample, objective, mesh)
    return mean if chunks == 1 else _in_chunks(mean, chunks)


def _of_objective(
    sample: Sample, objective: Callable[[Key, HParams, PyTree], chex.Array], mesh: Mesh | None
) -> Mean:
    """The gradient of the mean, without one gradient for every task.

    What the tasks share, as the parameters of a first inner step, is differentiated once for all
    of them: the sum over the tasks becomes part of the matrix products.
    """

    def one(hparams: HParams, source: PyTree, key: Key) -> chex.Array:
        return objective(key, hparams, sample(source))

    def total(hparams: HParams, weights: chex.Array, *inputs: PyTree) -> Gradient:
        leaves, merge = floats.split(hparams)

        def loss(leaves: floats.Floats) -> chex.Array:
            losses = jax.vmap(one, (None, 0, 0))(merge(leaves), *inputs)
            return jnp.sum(losses * weights.astype(losses.dtype))

        return jax.value_and_grad(loss)(leaves)

    def mean(
        hparams: HParams, inputs: tuple[PyTree, Key], memory: PyTree
    ) -> tuple[Gradient, PyTree]:
        count = inputs[1].shape[0]
        return summed(total, mesh)(hparams, jnp.full(count, 1 / count), *inputs), memory

    return mean


def _of_estimates(sample: Sample, estimator: Estimator, mesh: Mesh | None) -> Mean:
    """The means of losses and gradients, of which there is one for every task."""

    def one(
        hparams: HParams, inputs: tuple[PyTree, Key], memory: PyTree
    ) -> tuple[Estimate, PyTree]:
        source, key = inputs
        estimate, memory = estimator.estimate(key, hparams, sample(source), memory)
        return estimate._replace(info={}), memory

    def mean(
        hparams: HParams, inputs: tuple[PyTree, Key], memory: PyTree
    ) -> tuple[Gradient, PyTree]:
        estimate, memory = batched(one, mesh)(hparams, inputs, memory)
        grads = [grad.mean(axis=0) for grad in floats.split(estimate.grad)[0]]
        return (estimate.loss.mean(), grads), memory

    return mean


def _in_chunks(mean: Mean, chunks: int) -> Mean:
    def over_chunks(
        hparams: HParams, inputs: tuple[PyTree, Key], memory: PyTree
    ) -> tuple[Gradient, PyTree]:
        cut = jax.tree.map(lambda x: x.reshape(chunks, -1, *x.shape[1:]), (inputs, memory))
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
