"""The mean loss and gradient over the tasks of a round of meta-training."""

from collections.abc import Callable
from typing import Any, TypeAlias

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from metahpo import floats
from metahpo.base import Estimate, Estimator, HParams, Key, PyTree
from metahpo.run.sharding import batched, summed

Sample: TypeAlias = Callable[[PyTree], PyTree]
Gradient: TypeAlias = tuple[chex.Array, floats.Floats]
Part: TypeAlias = Callable[[HParams, tuple[PyTree, Key], PyTree], tuple[Any, PyTree]]
Mean: TypeAlias = Callable[
    [HParams, tuple[PyTree, Key], PyTree], tuple[Gradient, PyTree, chex.Array]
]


def task_mean(
    sample: Sample,
    estimator: Estimator,
    mesh: Mesh | None,
    chunks: int,
    leave_out: bool = False,
) -> Mean:
    """How a round averages over its tasks.

    Args:
        sample: ``(source) -> task``: draws a task from its key, where it is used; the identity for
            tasks that are there already.
        estimator: of one task's gradient.
        mesh: devices to spread the tasks over.
        chunks: the tasks are computed in so many parts, one after another.
        leave_out: whether tasks whose loss or gradient is not finite are left out of the mean.

    Returns:
        ``(hparams, (sources, estimate keys), memory) -> ((loss, gradients), memory, left out)``;
        sources, keys and memory have a leading axis ``[tasks]``, the gradients are those of the
        float leaves, and ``i32[]`` tasks were left out.
    """
    objective = estimator.objective
    if leave_out:
        part = _of_finite(sample, estimator, mesh)
    elif objective is None:
        part = _of_estimates(sample, estimator, mesh)
    else:
        part = _of_objective(sample, objective, mesh)
    added = part if chunks == 1 else _in_chunks(part, chunks)

    def mean(
        hparams: HParams, inputs: tuple[PyTree, Key], memory: PyTree
    ) -> tuple[Gradient, PyTree, chex.Array]:
        total, memory = added(hparams, inputs, memory)
        if leave_out:  # NaN if none is left, which skips the update
            (loss, grads), count = total
            shares = [
                (grad / count).astype(leaf.dtype)
                for grad, leaf in zip(grads, floats.split(hparams)[0], strict=True)
            ]
            return (loss / count, shares), memory, inputs[1].shape[0] - count
        if chunks > 1:
            total = jax.tree.map(lambda x: x / chunks, total)
        return total, memory, jnp.zeros((), jnp.int32)

    return mean


def _of_objective(
    sample: Sample, objective: Callable[[Key, HParams, PyTree], chex.Array], mesh: Mesh | None
) -> Part:
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


def _of_estimates(sample: Sample, estimator: Estimator, mesh: Mesh | None) -> Part:
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


def _of_finite(sample: Sample, estimator: Estimator, mesh: Mesh | None) -> Part:
    """The sums over tasks whose loss and gradient are finite, and the number of these tasks.

    The memory of the others begins anew, or a state that is not finite would stay so.
    """

    def one(
        hparams: HParams, inputs: tuple[PyTree, Key], memory: PyTree
    ) -> tuple[tuple[Gradient, chex.Array], PyTree]:
        source, key = inputs
        task = sample(source)
        estimate, new = estimator.estimate(key, hparams, task, memory)
        grads = floats.split(estimate.grad)[0]
        finite = jnp.stack([jnp.isfinite(x).all() for x in (estimate.loss, *grads)]).all()
        if jax.tree.leaves(memory):
            fresh = estimator.init(jax.random.fold_in(key, 1), hparams, task)
            new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, fresh)
        counted = jax.tree.map(
            lambda x: jnp.where(finite, floats.wide(x), 0), (estimate.loss, grads)
        )
        return (counted, finite.astype(jnp.int32)), new

    def total(
        hparams: HParams, inputs: tuple[PyTree, Key], memory: PyTree
    ) -> tuple[tuple[Gradient, chex.Array], PyTree]:
        each, memory = batched(one, mesh)(hparams, inputs, memory)
        return jax.tree.map(lambda x: x.sum(axis=0, dtype=x.dtype), each), memory

    return total


def _in_chunks(part: Part, chunks: int) -> Part:
    """The sum over the chunks."""

    def over_chunks(
        hparams: HParams, inputs: tuple[PyTree, Key], memory: PyTree
    ) -> tuple[Any, PyTree]:
        cut = jax.tree.map(lambda x: x.reshape(chunks, -1, *x.shape[1:]), (inputs, memory))
        zeros = jax.tree.map(
            lambda shape: jnp.zeros(shape.shape, shape.dtype),
            jax.eval_shape(part, hparams, *jax.tree.map(lambda x: x[0], cut))[0],
        )

        def body(total: PyTree, one: PyTree) -> tuple[PyTree, PyTree]:
            new, memory = part(hparams, *one)
            return jax.tree.map(jnp.add, total, new), memory

        total, memory = jax.lax.scan(body, zeros, cut)
        return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), memory)

    return over_chunks
