"""A policy that tunes a training, as a training process of its own."""

from collections.abc import Callable

import chex
import jax

from metahpo._deprecation import warn
from metahpo.base import HParams, Key, Problem, Task
from metahpo.rl.environment import Environment
from metahpo.rl.policy import Policy
from metahpo.rl.tuning import TuningState


def policy_problem(
    problem: Problem, environment: Environment, policy: Policy, greedy: bool = False
) -> Problem:
    """The old spelling of ``rl.problem(environment, policy, loss=lambda state: state.loss)``.

    Its state is the ``TuningState`` itself, and it trains on after the last segment.

    Args:
        problem: the training that is tuned; gives the tasks.
        environment: a ``tuning_environment`` of that problem.
        policy: the policy.
        greedy: whether to take the most probable action instead of sampling one.
    """
    warn(
        "rl.policy_problem(problem, environment, policy) is now "
        "rl.problem(environment, policy, loss=lambda state: state.loss), whose state is a Played"
    )

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
