"""Learning the map from tasks to hyperparameters end to end, through training itself."""

from collections.abc import Callable
from typing import NamedTuple

import chex

from metahpo import space as spaces
from metahpo.base import HParams, Key, Params, Problem, State, Task
from metahpo.transfer.network import Mapping, unit_point


class MappedState(NamedTuple):
    """The predicted hyperparameters, and the problem's state."""

    hparams: HParams
    training: State

    @property
    def params(self) -> Params:
        """The training's, or all of its state, where an inner loss looks for them."""
        return getattr(self.training, "params", self.training)


def mapping(problem: Problem, network: Mapping) -> Problem:
    """The problem with its hyperparameters replaced by a network's weights.

    The network turns the task's descriptor into hyperparameters, the problem trains with them, and
    the outer loss is the problem's.  With ``hypergrad.reverse`` and ``meta_train`` the network
    learns hyperparameters that work, without ever seeing good ones.  Gradients reach ``Float``
    dimensions only, so the others stay at the network's default.

    Args:
        problem: the training process; its ``describe`` feeds the network.
        network: a Mapping with ``floats_only=True``.

    Returns:
        A Problem whose hyperparameters are one member's weights and whose state is a
        ``MappedState``.

    Raises:
        ValueError: if the network predicts dimensions that have no gradient.

    Example:
        >>> import jax, jax.numpy as jnp, optax, metahpo as mh
        >>> family = mh.problems.quadratics(kappa=10.0)
        >>> problem = mh.problems.training(family, optimizer=lambda h: optax.sgd(h["lr"]))
        >>> space = {"lr": mh.Float(1e-4, 1.0, log=True)}
        >>> size = problem.describe(problem.sample(jax.random.key(0))).shape
        >>> network = mh.transfer.network(space, {"lr": 0.01}, jnp.zeros(size), jnp.ones(size))
        >>> learner = mh.transfer.mapping(problem, network)
        >>> result = jax.jit(lambda key: mh.meta_train(
        ...     key, learner, mh.hypergrad.reverse(learner, steps=2), network.init(key),
        ...     optax.adam(1e-2), rounds=2, tasks=4,
        ... ))(jax.random.key(1))
    """
    fixed = [
        name
        for name, learned, floats in zip(
            spaces.dimensions(network.space),
            network.learned,
            spaces.is_continuous(network.space),
            strict=True,
        )
        if learned and not floats
    ]
    if fixed:
        raise ValueError(
            f"a mapping learns Float dimensions only, and the network also predicts {fixed}; "
            f"make the network with floats_only=True"
        )

    def predict(hparams: HParams, task: Task) -> HParams:
        return spaces.decode(network.space, unit_point(network, hparams, problem.describe(task)))

    def init(key: Key, hparams: HParams, task: Task) -> MappedState:
        # Once a training: a descriptor may cost more than a step.
        predicted = predict(hparams, task)
        return MappedState(predicted, problem.init(key, predicted, task))

    def step(key: Key, hparams: HParams, task: Task, state: MappedState) -> MappedState:
        del hparams
        training = problem.step(key, state.hparams, task, state.training)
        return state._replace(training=training)

    def loss(key: Key, hparams: HParams, task: Task, state: MappedState) -> chex.Array:
        del hparams
        return problem.loss(key, state.hparams, task, state.training)

    def lift(inner_loss: Callable[..., chex.Array]) -> Callable[..., chex.Array]:
        own = problem.lift(inner_loss)
        return lambda hparams, task, *rest: own(predict(hparams, task), task, *rest)

    inner = problem.predict
    return Problem(
        problem.sample,
        init,
        step,
        loss,
        problem.describe,
        predict=None if inner is None else lambda state, x: inner(state.training, x),
        initial=network.init,
        lift=lift,
    )
