"""Averages of a training's parameters, which often generalise better than its last ones."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import HParams, Key, Params, Problem, State, Task
from metahpo.inner import check_problem
from metahpo.problems.training import TrainState
from metahpo.updates import typed_as


class AveragedWeights(NamedTuple):
    """A training and the moving average of its parameters.

    Attributes:
        training: a ``TrainState``.
        average: like its parameters; not corrected for its start from zero.
        weight: ``f[]``, the sum of the average's weights, by which it is corrected.
    """

    training: TrainState
    average: Params
    weight: chex.Array


def weight_average(problem: Problem, decay: Callable[[HParams], chex.Numeric]) -> Problem:
    """The same training, judged by an exponential moving average of its parameters.

    The average is corrected for its beginning, as Adam's moments are, so that a decay near 1 does
    not favour the initial parameters (Polyak and Juditsky, 1992; Izmailov et al., 2018).

    Args:
        problem: a training whose state is a ``TrainState``, as ``problems.training`` and the
            adapters of flax make it.
        decay: ``(hparams) -> f[]``, in [0, 1): 0 is the last parameters alone.

    Returns:
        A Problem whose state is an ``AveragedWeights``.

    Example:
        >>> import jax, optax, metahpo as mh
        >>> family = mh.problems.sinusoid(shots=5)
        >>> plain = mh.problems.training(family, lambda h: optax.sgd(h["lr"]))
        >>> problem = weight_average(plain, lambda h: h["decay"])
        >>> run = jax.jit(mh.inner.outer_loss(problem, steps=5))
        >>> task = problem.sample(jax.random.key(0))
        >>> last = mh.inner.outer_loss(plain, steps=5)(jax.random.key(1), {"lr": 0.01}, task)[0]
        >>> same = run(jax.random.key(1), {"lr": 0.01, "decay": 0.0}, task)[0]
        >>> bool(abs(last - same) < 1e-6)
        True
    """
    check_problem(problem)
    checks.function("decay", decay, "(hparams) -> decay", None)

    def init(key: Key, hparams: HParams, task: Task) -> AveragedWeights:
        state = _trained(problem.init(key, hparams, task))
        zeros = jax.tree.map(jnp.zeros_like, state.params)
        return AveragedWeights(state, zeros, jnp.zeros(()))

    def step(key: Key, hparams: HParams, task: Task, state: AveragedWeights) -> AveragedWeights:
        training = _trained(problem.step(key, hparams, task, state.training))
        kept = decay(hparams)
        average = jax.tree.map(
            lambda mean, new: typed_as(jnp.asarray(kept * mean + (1 - kept) * new), mean),
            state.average,
            training.params,
        )
        weight = typed_as(jnp.asarray(kept * state.weight + (1 - kept)), state.weight)
        return AveragedWeights(training, average, weight)

    def loss(key: Key, hparams: HParams, task: Task, state: AveragedWeights) -> chex.Array:
        return problem.loss(key, hparams, task, _judged(state))

    inner = problem.predict

    def predict(state: AveragedWeights, x: chex.Array) -> State:
        assert inner is not None
        return inner(_judged(state), x)

    known = None if inner is None else predict

    def lift(inner_loss: Callable[..., chex.Array]) -> Callable[..., chex.Array]:
        raise ValueError(
            "an inner loss says nothing of an average of parameters: give the estimator the "
            "problem without it, whose parameters are the average once they have converged"
        )

    return Problem(problem.sample, init, step, loss, problem.describe, known, problem.initial, lift)


def _judged(state: AveragedWeights) -> TrainState:
    """The training with the average for its parameters; as it is before the first update."""
    begun = state.weight > 0
    weight = jnp.where(begun, state.weight, 1)

    def corrected(mean: chex.Array, now: chex.Array) -> chex.Array:
        return typed_as(jnp.where(begun, mean / weight, now), now)

    params = jax.tree.map(corrected, state.average, state.training.params)
    return state.training._replace(params=params)


def _trained(state: State) -> TrainState:
    if not isinstance(state, TrainState):
        raise ValueError(
            "weight_average needs a problem whose state is a TrainState, as problems.training "
            f"makes it, got {type(state).__name__}"
        )
    return state
