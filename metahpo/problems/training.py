"""Ordinary training: a task family and an optax optimiser make a Problem."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import HParams, Key, Params, Problem, PyTree, Task, TaskFamily
from metahpo.problems.stateful import StatefulFamily, lifted
from metahpo.updates import started, typed_as, updated

_LOSS = 2**31  # none of the numbers that a minibatch folds in


class TrainState(NamedTuple):
    """The state of an ordinary training.

    Attributes:
        params: what the optimiser moves.
        opt_state: the optimiser's.
        model_state: what the model changes itself, of a ``StatefulFamily``.
        aux: what the loss returned besides, at the last update; zeros before the first.
    """

    params: Params
    opt_state: optax.OptState
    model_state: PyTree = ()
    aux: PyTree = ()


def training(
    family: TaskFamily | StatefulFamily,
    optimizer: Callable[[HParams], optax.GradientTransformation],
    configure: Callable[[HParams], TaskFamily | StatefulFamily] | None = None,
    minibatch: Callable[[Key, Task], Task] | None = None,
    gradient: Callable[..., Callable[[Params], Params]] = jax.grad,
    initial: Callable[[Key], HParams] | None = None,
) -> Problem:
    """Training of a family's model on the support set, judged on the query set.

    Args:
        family: data, model and loss; a ``StatefulFamily`` where the model has a state of its own
            (batch statistics), or where the loss needs a key and the task has no network that
            ``few_shot`` knows (augmentation).
        optimizer: ``(hparams) -> optax.GradientTransformation``; called inside the traced
            function, so that changing a number never recompiles.
        configure: ``(hparams) -> family``, for hyperparameters of the model or of the loss: its
            ``init`` and ``loss`` replace the family's.  Called inside the traced function.
        minibatch: ``(key, task) -> task``, the part of the task that one step sees; all of it by
            default.
        gradient: ``(loss) -> (params) -> gradient`` of the support loss; ``mh.mixed_gradient``
            saves memory in hypergradients of deep networks.
        initial: ``(key) -> hparams``, where learning the hyperparameters starts.

    Returns:
        A Problem whose state is a ``TrainState`` and whose outer loss is the query loss.  The
        optimiser gets what optax's wider interface offers (``value``, ``grad``, ``value_fn``).  The
        roots in its update have the slope 0 at 0, so that hypergradients through Adam and its kin
        stay right when a parameter's gradient is exactly zero.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.problems.training(
        ...     mh.problems.sinusoid(shots=5), optimizer=lambda h: optax.sgd(h["lr"])
        ... )
        >>> task = problem.sample(jax.random.key(0))
        >>> state = mh.inner.unroll(problem, steps=3)(jax.random.key(1), {"lr": 0.01}, task)
        >>> loss = problem.loss(jax.random.key(2), {"lr": 0.01}, task, state)
    """
    checks.function("optimizer", optimizer, "(hparams) -> optax.GradientTransformation", None)

    def model(hparams: HParams) -> StatefulFamily:
        return lifted(family if configure is None else configure(hparams))

    def batch_and_key(key: Key, task: Task) -> tuple[Task, Key]:
        if isinstance(family, TaskFamily):
            if minibatch is None:
                return task, key
            return minibatch(key, task), jax.random.fold_in(key, _LOSS)
        batch_key, loss_key = jax.random.split(key)
        return (task if minibatch is None else minibatch(batch_key, task)), loss_key

    def init(key: Key, hparams: HParams, task: Task) -> TrainState:
        of = model(hparams)
        params, model_state = of.init(key, task)
        aux: PyTree = ()
        if not isinstance(family, TaskFamily):
            batch, loss_key = jax.eval_shape(batch_and_key, key, task)

            def besides(key: Key, params: Params, model_state: PyTree, batch: Task) -> PyTree:
                return of.loss(key, params, model_state, batch, "support")[2]

            shapes = jax.eval_shape(besides, loss_key, params, model_state, batch)
            aux = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return TrainState(params, started(optimizer(hparams), params), model_state, aux)

    def step(key: Key, hparams: HParams, task: Task, state: TrainState) -> TrainState:
        batch, loss_key = batch_and_key(key, task)

        def support(params: Params) -> tuple[chex.Array, Any]:
            loss, model_state, aux = model(hparams).loss(
                loss_key, params, state.model_state, batch, "support"
            )
            return loss, (jax.tree.map(typed_as, model_state, state.model_state), aux)

        (value, (model_state, aux)), grads = _with_value(gradient, support)(state.params)
        extra = {"value": value, "grad": grads, "value_fn": lambda params: support(params)[0]}
        moved = updated(optimizer(hparams), grads, state.opt_state, state.params, **extra)
        return TrainState(*moved, model_state, jax.tree.map(jnp.asarray, aux))

    def loss(key: Key, hparams: HParams, task: Task, state: TrainState) -> chex.Array:
        return model(hparams).loss(key, state.params, state.model_state, task, "query")[0]

    apply = lifted(family).predict

    def predict(state: TrainState, x: chex.Array) -> PyTree:
        assert apply is not None
        return apply(state.params, state.model_state, x)

    return Problem(
        family.sample,
        init,
        step,
        loss,
        family.describe,
        None if apply is None else predict,
        initial,
    )


def _with_value(
    gradient: Callable[..., Callable[[Params], Params]],
    loss: Callable[[Params], tuple[chex.Array, PyTree]],
) -> Callable[[Params], tuple[tuple[chex.Array, PyTree], Params]]:
    """The loss and what it returns besides, and its gradient."""
    if gradient is jax.grad:
        return jax.value_and_grad(loss, has_aux=True)
    of_loss = gradient(lambda params: loss(params)[0])
    return lambda params: (loss(params), of_loss(params))
