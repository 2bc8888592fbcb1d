"""The one wrapper of problems: the same training under other hyperparameters."""

from collections.abc import Callable

import chex

from metahpo.base import HParams, Key, Problem, PyTree, State, Task


def reparametrised(
    problem: Problem,
    to_hparams: Callable[[PyTree], HParams],
    initial: Callable[[Key], PyTree] | None = None,
) -> Problem:
    """The same problem, whose hyperparameters are computed from other numbers.

    Args:
        problem: the training process.
        to_hparams: ``(values) -> hparams``, pure; differentiable where gradients are wanted.
        initial: ``(key) -> values``, where learning them starts.  It cannot be derived from
            ``problem.initial``, so without one the new problem has none.

    Returns:
        A Problem of ``values``; its tasks, states and predictions are those of ``problem``, and so
        is the ``inner_loss`` that an estimator of it takes: it sees ``hparams``.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["lr"] ** 2)
        >>> decades = mh.reparametrised(problem, lambda v: {"lr": 10.0 ** v["log10"]})
        >>> float(decades.loss(jax.random.key(0), {"log10": jnp.array(-1.0)}, None, ()))
        0.01...
    """

    def init(key: Key, values: PyTree, task: Task) -> State:
        return problem.init(key, to_hparams(values), task)

    def step(key: Key, values: PyTree, task: Task, state: State) -> State:
        return problem.step(key, to_hparams(values), task, state)

    def loss(key: Key, values: PyTree, task: Task, state: State) -> chex.Array:
        return problem.loss(key, to_hparams(values), task, state)

    def lift(inner_loss: Callable[..., chex.Array]) -> Callable[..., chex.Array]:
        own = problem.lift(inner_loss)
        return lambda values, *rest: own(to_hparams(values), *rest)

    return Problem(
        problem.sample, init, step, loss, problem.describe, problem.predict, initial, lift
    )
