"""Learning the map from tasks to hyperparameters end to end, through training itself."""

import chex

from metahpo import space as spaces
from metahpo.base import HParams, Key, Problem, State, Task
from metahpo.transfer.network import Network, unit_point


def mapping(problem: Problem, network: Network) -> Problem:
    """The problem with its hyperparameters replaced by a network's weights.

    The network turns the task's descriptor into hyperparameters, the problem trains with them, and
    the outer loss is the problem's.  With ``hypergrad.reverse`` and ``meta_train`` the network
    learns hyperparameters that work, without ever seeing good ones.  Gradients reach ``Float``
    dimensions only, so the others stay at the network's default.

    Args:
        problem: the training process; its ``describe`` feeds the network.
        network: a Network with ``floats_only=True``.

    Returns:
        A Problem whose hyperparameters are one member's weights and whose state is the problem's.

    Raises:
        ValueError: if the network predicts dimensions that have no gradient.

    Example:
        >>> import jax, jax.numpy as jnp, optax, metahpo as mh
        >>> problem = mh.problems.training(
        ...     mh.problems.sinusoid(shots=5), optimizer=lambda h: optax.sgd(h["lr"])
        ... )
        >>> space = {"lr": mh.Float(1e-4, 1.0, log=True)}
        >>> size = problem.describe(problem.sample(jax.random.key(0))).shape
        >>> network = mh.transfer.network(space, {"lr": 0.01}, jnp.zeros(size), jnp.ones(size))
        >>> learner = mh.transfer.mapping(problem, network)
        >>> result = mh.meta_train(
        ...     jax.random.key(1), learner, mh.hypergrad.reverse(learner, steps=2),
        ...     network.init(jax.random.key(2)), optax.adam(1e-2), rounds=2, tasks=4,
        ... )
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

    def hyperparameters(weights: HParams, task: Task) -> HParams:
        unit = unit_point(network, weights, problem.describe(task))
        return spaces.decode(network.space, unit)

    def init(key: Key, hparams: HParams, task: Task) -> State:
        return problem.init(key, hyperparameters(hparams, task), task)

    def step(key: Key, hparams: HParams, task: Task, state: State) -> State:
        return problem.step(key, hyperparameters(hparams, task), task, state)

    def loss(key: Key, hparams: HParams, task: Task, state: State) -> chex.Array:
        return problem.loss(key, hyperparameters(hparams, task), task, state)

    return Problem(problem.sample, init, step, loss, problem.describe)
