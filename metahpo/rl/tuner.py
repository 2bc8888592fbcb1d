"""A policy that tunes a training, as a training process of its own."""

from collections.abc import Callable

import chex
import jax

from metahpo.base import HParams, Key, Problem, Task
from metahpo.rl.environment import Environment
from metahpo.rl.policy import Policy
from metahpo.rl.tuning import TuningState


def policy_problem(
    problem: Problem, environment: Environment, policy: Policy, greedy: bool = False
) -> Problem:
    """The process "act, then train a segment" as a Problem whose hyperparameters are the weights.

    ``inner.unroll(..., steps=segments)`` evaluates a policy, ``meta_train`` with ``rl.reinforce``
    or with ``hypergrad.es`` trains it.

    Args:
        problem: the training that is tuned; gives the tasks.
        environment: a ``tuning_environment`` of that problem.
        policy: the policy.
        greedy: whether to take the most probable action instead of sampling one.

    Returns:
        A Problem whose state is a ``TuningState`` (so ``state.training.state`` is the inner
        training state and ``state.unit`` its hyperparameters) and whose outer loss is the
        validation loss.

    Example:
        >>> import metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> space = {"x": mh.Float(0.0, 1.0)}
        >>> environment = mh.rl.tuning_environment(problem, space, segment_steps=1, segments=2)
        >>> policy = mh.rl.softmax_policy(environment)
        >>> tuner = policy_problem(problem, environment, policy)
        >>> weights = jax.jit(policy.init)(jax.random.key(0))
        >>> state = jax.jit(mh.inner.unroll(tuner, steps=2))(jax.random.key(1), weights, None)
        >>> int(state.time)
        2
    """

    def init(key: Key, hparams: HParams, task: Task) -> TuningState:
        del hparams
        return environment.reset(key, task)

    def step(key: Key, hparams: HParams, task: Task, state: TuningState) -> TuningState:
        del task  # the state keeps its own
        action_key, step_key = jax.random.split(key)
        observation = environment.observe(state)
        if greedy:
            action = policy.mode(hparams, observation)
        else:
            action = policy.sample(action_key, hparams, observation)
        return environment.step(step_key, state, action)[0]

    def loss(key: Key, hparams: HParams, task: Task, state: TuningState) -> chex.Array:
        del key, hparams, task
        return state.loss

    def lift(inner_loss: Callable[..., chex.Array]) -> Callable[..., chex.Array]:
        raise ValueError(
            "an inner loss has no use here: a policy changes the hyperparameters of the training "
            "as it goes; use rl.reinforce or hypergrad.es"
        )

    inner = problem.predict
    return Problem(
        problem.sample,
        init,
        step,
        loss,
        problem.describe,
        predict=None if inner is None else lambda state, x: inner(state.training.state, x),
        initial=policy.init,
        lift=lift,
    )
