"""A flax linen module as a Problem."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import chex
import jax
import optax
from flax import linen as nn

from metahpo.base import HParams, Key, Params, Problem, PyTree, Task
from metahpo.networks.flax_convolution import fast_convolutions
from metahpo.problems.batches import as_sampler, minibatch, part_of
from metahpo.problems.few_shot import Examples, filled, judged
from metahpo.problems.stateful import StatefulFamily
from metahpo.problems.training import training


def linen(
    module: nn.Module | Callable[[HParams], nn.Module],
    criterion: Callable[[chex.Array, chex.Array], chex.Array],
    data: Task | Callable[[Key], Task],
    optimizer: Callable[[HParams], optax.GradientTransformation],
    *,
    train: Mapping[str, Any] | None = None,
    evaluate: Mapping[str, Any] | None = None,
    rngs: Sequence[str] = ("dropout",),
    batch_size: int | None = None,
    training_criterion: Callable[[chex.Array, chex.Array, HParams], chex.Array] | None = None,
    gradient: Callable[..., Callable[[Params], Params]] = jax.grad,
    initial: Callable[[Key], HParams] | None = None,
) -> Problem:
    """Training of a flax linen module by an optax optimiser.

    What is in the collection ``params`` is trained; all others (``batch_stats``) are kept from
    update to update.  Every update has random numbers of its own.  On a CPU convolutions are matrix
    products, which stay fast for many members at once; layers with a ``conv_general_dilated`` of
    their own keep it.

    Args:
        module: called with inputs ``x`` ``f[n, ...]``; or ``(hparams) -> module``, for numbers of
            the module that are tuned (a dropout rate); all of them must have the same parameters.
        criterion: ``(outputs, y) -> f[]``: what trains it and what judges it; must take
            ``weight=`` if the examples have weights.
        data: a task with the fields ``support`` (trains) and ``query`` (judges), each an
            ``Examples(x, y)``, as ``mh.problems.split`` makes them; or ``(key) -> task``.
        optimizer: ``(hparams) -> optax.GradientTransformation``.
        train: keyword arguments of the module's call in updates, for example
            ``{"train": True}`` or ``{"deterministic": False}``.
        evaluate: keyword arguments when it is judged or predicts, ``{"train": False}``.
        rngs: names of the random streams that the module draws from in updates.
        batch_size: rows of an update, drawn with replacement; all rows by default.
        training_criterion: ``(outputs, y, hparams) -> f[]``, in place of ``criterion`` for updates,
            where hyperparameters shape the loss (label smoothing).  What judges must not depend on
            them.
        gradient: as of ``training``.
        initial: ``(key) -> hparams``, where learning the hyperparameters starts.

    Returns:
        A Problem whose state is a ``TrainState``; ``predict`` is the module's call.

    Raises:
        ValueError: for data without the two parts.

    Example:
        >>> import jax, optax, metahpo as mh
        >>> x = jax.random.normal(jax.random.key(0), (30, 2))
        >>> data = mh.problems.split(x, x.sum(1, keepdims=True), train=20, validation=5)
        >>> problem = linen(
        ...     nn.Dense(1), mh.problems.squared_error, data, lambda h: optax.sgd(h["lr"])
        ... )
        >>> fit = jax.jit(mh.inner.outer_loss(problem, steps=100))
        >>> bool(fit(jax.random.key(1), {"lr": 0.1}, data)[0] < 1e-3)
        True
    """
    fixed = isinstance(module, nn.Module)
    training_calls, judging_calls = dict(train or {}), dict(evaluate or {})

    def made(hparams: HParams) -> nn.Module:
        return module if isinstance(module, nn.Module) else module(hparams)

    def predict(params: Params, variables: PyTree, x: chex.Array) -> PyTree:
        with fast_convolutions():
            return made(None).apply({"params": params, **variables}, x, **judging_calls)

    def family(hparams: HParams) -> StatefulFamily:
        def init(key: Key, task: Task) -> tuple[Params, PyTree]:
            names = ("params", *rngs)
            keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
            with fast_convolutions():
                variables = made(hparams).init(keys, part_of(task, "support").x, **training_calls)
            return variables["params"], {k: v for k, v in variables.items() if k != "params"}

        def loss(
            key: Key, params: Params, variables: PyTree, task: Task, split: str
        ) -> tuple[chex.Array, PyTree, PyTree]:
            examples = filled(Examples(*part_of(task, split)))
            x = examples.x
            everything = {"params": params, **variables}
            if split != "support":
                with fast_convolutions():
                    outputs = made(hparams).apply(everything, x, **judging_calls)
                return judged(criterion, outputs, examples), variables, ()
            keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(rngs)}
            with fast_convolutions():
                outputs, changed = made(hparams).apply(
                    everything, x, rngs=keys, mutable=list(variables), **training_calls
                )
            if training_criterion is None:
                return judged(criterion, outputs, examples), {**variables, **changed}, ()
            value = judged(training_criterion, outputs, examples, hparams)
            return value, {**variables, **changed}, ()

        known = predict if fixed else None  # a prediction knows no hyperparameters
        return StatefulFamily(as_sampler(data), init, loss, predict=known)

    return training(
        family(None),
        optimizer,
        configure=family,
        minibatch=None if batch_size is None else minibatch(batch_size),
        gradient=gradient,
        initial=initial,
    )
