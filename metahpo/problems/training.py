"""Ordinary training: a task family and an optax optimiser make a Problem."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import optax

from metahpo.base import HParams, Key, Network, Params, Problem, Task, TaskFamily
from metahpo.safe_sqrt import with_safe_sqrt


class TrainState(NamedTuple):
    """The state of an ordinary training."""

    params: Params
    opt_state: optax.OptState


def training(
    family: TaskFamily,
    optimizer: Callable[[HParams], optax.GradientTransformation],
    configure: Callable[[HParams], TaskFamily] | None = None,
    minibatch: Callable[[Key, Task], Task] | None = None,
    gradient: Callable[..., Callable[[Params], Params]] = jax.grad,
    initial: Callable[[Key], HParams] | None = None,
) -> Problem:
    """Training of a family's model on the support set, judged on the query set.

    Args:
        family: data, model and loss.
        optimizer: ``(hparams) -> optax.GradientTransformation``; called inside the traced
            function, so that changing a number never recompiles.
        configure: ``(hparams) -> TaskFamily``, for hyperparameters of the model or of the loss:
            its ``init`` and ``loss`` replace the family's.  Called inside the traced function.
        minibatch: ``(key, task) -> task``, the part of the task that one step sees; all of it by
            default.
        gradient: ``(loss) -> (params) -> gradient`` of the support loss; ``mh.mixed_gradient``
            saves memory in hypergradients of deep networks.
        initial: ``(key) -> hparams``, where learning the hyperparameters starts.

    Returns:
        A Problem whose state is a ``TrainState`` and whose outer loss is the query loss.  The
        roots in the optimiser's update have the slope 0 at 0, so that hypergradients through Adam
        and its kin stay right when a parameter's gradient is exactly zero.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.problems.training(
        ...     mh.problems.sinusoid(shots=5), optimizer=lambda h: optax.sgd(h["lr"])
        ... )
        >>> task = problem.sample(jax.random.key(0))
        >>> state = mh.inner.unroll(problem, steps=3)(jax.random.key(1), {"lr": 0.01}, task)
        >>> loss = problem.loss(jax.random.key(2), {"lr": 0.01}, task, state)
    """

    def model(hparams: HParams) -> TaskFamily:
        return family if configure is None else configure(hparams)

    def init(key: Key, hparams: HParams, task: Task) -> TrainState:
        params = model(hparams).init(key, task)
        return TrainState(params, optimizer(hparams).init(params))

    def step(key: Key, hparams: HParams, task: Task, state: TrainState) -> TrainState:
        batch = task if minibatch is None else minibatch(key, task)
        grads = gradient(lambda p: model(hparams).loss(p, batch, "support"))(state.params)
        update = with_safe_sqrt(optimizer(hparams).update)
        updates, opt_state = update(grads, state.opt_state, state.params)
        return TrainState(optax.apply_updates(state.params, updates), opt_state)

    def loss(key: Key, hparams: HParams, task: Task, state: TrainState) -> chex.Array:
        del key
        return model(hparams).loss(state.params, task, "query")

    predict = None if family.network is None else _predictor(family.network)
    return Problem(family.sample, init, step, loss, family.describe, predict, initial)


def _predictor(network: Network) -> Callable[[TrainState, chex.Array], chex.Array]:
    return lambda state, x: network.apply(state.params, x)
